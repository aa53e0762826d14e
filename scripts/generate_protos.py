"""Write the _pb2.py and _pb2.pyi of each .proto in runtime/serving/protos.

The types are protoc's own. The module is ours, for two reasons:

- its messages live in a pool of their own. In the pool that all generated code shares, a process
  could not import it together with another copy of the protocol, and an entry script may well use
  such a client;
- it is made by protobuf's public functions, so that the protobuf of a device need not be as new as
  the compiler here.

With `--check`, write nothing and exit 1 if the files are not what would be written.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

DIRECTORY = Path(__file__).parents[1] / "runtime" / "serving" / "protos"
WIDTH = 96
HEAD = '''"""The messages of {proto}. Made by scripts/generate_protos.py: do not edit."""

from google.protobuf import descriptor_pool, message_factory
{more}
DESCRIPTOR = descriptor_pool.DescriptorPool().AddSerializedFile(
{data}
)
_MESSAGES = DESCRIPTOR.message_types_by_name
'''


def compiled(proto: Path, place: Path) -> tuple[FileDescriptorProto, str]:
    """Return what protoc makes of the .proto: the description, and the types as text."""
    done = protoc.main(
        [
            "protoc",
            f"--proto_path={DIRECTORY}",
            f"--descriptor_set_out={place / 'set'}",
            f"--pyi_out={place}",
            proto.name,
        ]
    )
    if done != 0:
        raise SystemExit("protoc failed: see above")
    files = FileDescriptorSet.FromString((place / "set").read_bytes())
    description = files.file[0]
    for message in description.message_type:
        _without_json_names(message)
    return description, (place / f"{proto.stem}_pb2.pyi").read_text("utf-8")


def module(proto: Path, description: FileDescriptorProto) -> str:
    """Return the text of the module."""
    data = "\n".join(f"    {piece!r}" for piece in _pieces(description.SerializeToString()))
    wrapped = "enum_type_wrapper.EnumTypeWrapper(DESCRIPTOR.enum_types_by_name[{!r}])"
    enums = [f"{enum.name} = {wrapped.format(enum.name)}" for enum in description.enum_type]
    more = "from google.protobuf.internal import enum_type_wrapper\n" if enums else ""
    messages = [
        f'{message.name} = message_factory.GetMessageClass(_MESSAGES["{message.name}"])'
        for message in description.message_type
    ]
    head = HEAD.format(proto=proto.name, data=data, more=more)
    return head + "\n".join([*enums, *messages]) + "\n"


def _pieces(data: bytes) -> Iterator[bytes]:
    """Yield the bytes in pieces whose text fits a line."""
    start = 0
    while start < len(data):
        end = start + 1
        while end < len(data) and len(repr(data[start : end + 1])) <= WIDTH:
            end += 1
        yield data[start:end]
        start = end


def _without_json_names(message: DescriptorProto) -> None:
    """Take out what protoc adds and nobody here reads."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        _without_json_names(nested)


def main(arguments: list[str]) -> None:
    """Write the files, or compare them."""
    for proto in sorted(DIRECTORY.glob("*.proto")):
        with tempfile.TemporaryDirectory() as place:
            description, types = compiled(proto, Path(place))
        code = module(proto, description)
        for suffix, text in (("_pb2.py", code), ("_pb2.pyi", types)):
            path = DIRECTORY / f"{proto.stem}{suffix}"
            if "--check" not in arguments:
                path.write_text(text, "utf-8")
            elif not path.is_file() or path.read_text("utf-8") != text:
                raise SystemExit(f"{path.name} is out of date: run `make protos`")


if __name__ == "__main__":
    main(sys.argv[1:])
