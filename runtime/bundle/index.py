"""The index: canonical JSON that lists a bundle's files and says how to run them.

Its SHA-256 is the bundle's identity; it is stored as a blob like any file. Receivers refuse a
`format` above their own and ignore fields they do not know. Specified in docs/specs/bundle.md.
"""

from typing import Any, Literal

import msgspec

from runtime import digests, files, messages
from runtime.digests import Digest
from runtime.errors import InvalidError

FORMAT = 1
MAX_INDEX_BYTES = 4 * 1024 * 1024
MAX_FILES = 10_000

DataType = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES",
]  # fmt: skip
"""Names of the Open Inference Protocol v2."""


class FileEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of a bundle."""

    path: str
    """Relative, '/' between the parts."""
    size: int
    sha256: Digest
    executable: bool = False


class TensorSpec(msgspec.Struct, frozen=True):
    """One input or output of a model."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    """-1 where any size fits (the batch dimension, usually first)."""


class Signature(msgspec.Struct, frozen=True):
    """What a model takes and gives, read from its graph."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """The acceptance test that runs on the device before traffic."""

    inputs: str
    """Path of a .npz in the bundle: input name to array."""
    outputs: str | None = None
    """Path of a .npz with the outputs that these inputs must give; None: it only must run."""
    rtol: float = 1e-3
    atol: float = 1e-5
    p95_ms: float | None = None
    """The 95th percentile of latency per call may be at most this, on the device itself."""


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the model's worker process may use."""

    memory_mb: int | None = None
    """Resident memory of the worker, MiB; None: no limit."""
    cpu: float | None = None
    """Cores; sets the number of inference threads (rounded up). None: one thread."""


class Uses(msgspec.Struct, frozen=True):
    """A registered version whose content this bundle includes, as an ensemble does."""

    model: str
    version: int
    bundle: Digest


class Index(msgspec.Struct, frozen=True, omit_defaults=True):
    """A bundle, whole."""

    format: int
    name: str
    """The model's name, 1 to 63 of a-z, 0-9 and '-'."""
    kind: Literal["onnx"]
    model: str
    """Path of the model file."""
    files: tuple[FileEntry, ...]
    signature: Signature
    entry: str | None = None
    """Path of a Python file with any of init(), run(), source()."""
    check: Check | None = None
    resources: Resources = Resources()
    sources: tuple[str, ...] = ()
    """Default sources, as URIs."""
    tags: dict[str, str] = {}
    description: str = ""
    metadata: dict[str, str] = {}
    """Free; unlike tags, no selector and no list shows it by itself."""
    card: str = ""
    """Path of the model card (Markdown); "": there is none."""
    uses: tuple[Uses, ...] = ()


def encode(index: Index) -> bytes:
    """Return the canonical bytes whose digest names the bundle."""
    return messages.canonical_json(index)


def identity(index: Index) -> Digest:
    """Return the bundle's digest."""
    return digests.of_bytes(encode(index))


def decode(data: bytes) -> Index:
    """Return a valid index; raise InvalidError naming the field that is wrong."""
    if len(data) > MAX_INDEX_BYTES:
        raise InvalidError("index", f"{len(data)} bytes", f"an index has at most {MAX_INDEX_BYTES}")
    try:
        plain: Any = msgspec.json.decode(data)
        if (
            isinstance(plain, dict)
            and isinstance(plain.get("format"), int)
            and plain["format"] > FORMAT
        ):
            raise InvalidError(
                "format", plain["format"], f"this Packhorse reads up to {FORMAT}: upgrade it"
            )
        index = msgspec.convert(plain, Index)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise InvalidError("index", data[:80], str(error)) from error
    validate(index)
    return index


def validate(index: Index) -> None:
    """Raise InvalidError unless files are listed once and safely, and references are listed."""
    if len(index.files) > MAX_FILES:
        raise InvalidError("files", len(index.files), f"a bundle has at most {MAX_FILES} files")
    paths = [entry.path for entry in index.files]
    if len(set(paths)) != len(paths):
        raise InvalidError(
            "files", sorted(p for p in paths if paths.count(p) > 1), "list each once"
        )
    for entry in index.files:
        files.relative_path(entry.path, "files.path")
        digests.parse(entry.sha256, f"files[{entry.path}].sha256")
        if entry.size < 0:
            raise InvalidError(f"files[{entry.path}].size", entry.size, "give bytes, 0 or more")
    check = index.check or Check(inputs="")
    for field, path in (
        ("model", index.model),
        ("entry", index.entry),
        ("check.inputs", check.inputs),
        ("check.outputs", check.outputs),
    ):
        if path and path not in paths:
            raise InvalidError(field, path, "name a file of the bundle")
