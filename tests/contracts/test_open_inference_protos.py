"""Our .proto against that of a client we did not write, and against the code made from it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

from runtime.serving.protos import open_inference_pb2

SCRIPT = Path(__file__).parents[2] / "scripts" / "generate_protos.py"
THEIRS: dict[str, Any] = {
    **model_config_pb2.DESCRIPTOR.message_types_by_name,
    **service_pb2.DESCRIPTOR.message_types_by_name,
}
OURS = open_inference_pb2.DESCRIPTOR


def messages(known: dict[str, Any]) -> Iterator[Any]:
    for message in known.values():
        yield message
        yield from messages(message.nested_types_by_name)


def fields(message: Any) -> dict[str, tuple[Any, ...]]:
    """Each field by name: all that the wire sees of it."""
    return {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            field.message_type and field.message_type.full_name,
            field.enum_type and field.enum_type.full_name,
            field.containing_oneof and field.containing_oneof.name,
        )
        for field in message.fields
    }


@pytest.mark.parametrize(
    "message", list(messages(OURS.message_types_by_name)), ids=lambda m: m.full_name
)
def test_every_field_has_the_number_and_the_type_that_clients_know(message: Any) -> None:
    top, *nested = message.full_name.removeprefix("inference.").split(".")
    theirs = THEIRS[top]
    for name in nested:
        theirs = theirs.nested_types_by_name[name]

    assert fields(message).items() <= fields(theirs).items()


def test_every_value_of_an_enum_is_the_one_that_clients_know() -> None:
    ours = OURS.enum_types_by_name["DataType"].values_by_name
    theirs = model_config_pb2.DESCRIPTOR.enum_types_by_name["DataType"].values_by_name

    assert {n: v.number for n, v in ours.items()} == {n: v.number for n, v in theirs.items()}


def test_every_method_takes_and_gives_what_clients_know() -> None:
    def methods(file: Any) -> dict[str, tuple[Any, ...]]:
        return {
            method.name: (
                method.input_type.full_name,
                method.output_type.full_name,
                method.client_streaming,
                method.server_streaming,
            )
            for method in file.services_by_name["GRPCInferenceService"].methods
        }

    ours = methods(OURS)

    assert ours.items() <= methods(service_pb2.DESCRIPTOR).items()
    assert OURS.package == service_pb2.DESCRIPTOR.package


def test_a_message_of_theirs_is_a_message_of_ours() -> None:
    theirs = service_pb2.ModelInferRequest(model_name="m", id="7", raw_input_contents=[b"abc"])
    theirs.inputs.add(name="x", datatype="FP32", shape=[-1, 3]).contents.fp32_contents.extend(
        [1, 2]
    )
    theirs.parameters["p"].double_param = 0.5

    ours = open_inference_pb2.ModelInferRequest.FromString(theirs.SerializeToString())

    assert str(ours) == str(theirs)
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )


def test_the_code_is_what_the_proto_says() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
