import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import desired
from runtime import messages
from runtime.errors import InvalidError
from runtime.messages import Capture, Desired, ModuleSpec
from tests.support.worlds import digest, spec


def payload(*specs: ModuleSpec, **fields: Any) -> bytes:
    return messages.encode(
        Desired(
            **{"device": "dev-a", "generation": 3, "issued_at": 1.0, "modules": specs, **fields}
        )
    )


def changed(**fields: Any) -> ModuleSpec:
    return msgspec.structs.replace(spec("a"), **fields)


def test_a_good_message_is_read_as_it_was_sent() -> None:
    assert desired.read(payload(spec("a"), spec("b", module="n")), "dev-a").modules == (
        spec("a"),
        spec("b", module="n"),
    )


def test_fields_from_the_future_are_ignored() -> None:
    data = payload(spec("a")).replace(b'{"device"', b'{"colour":"blue","device"')

    assert desired.read(data, "dev-a").generation == 3


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (payload(device="dev-b"), "desired.device"),
        (payload(generation=0), "desired.generation"),
        (payload(generation=2**60), "desired.generation"),
        (payload(format=2), "desired.format"),
        (payload(spec("a"), spec("b")), "desired.modules"),
        (payload(*(spec("a", module=f"m{n}") for n in range(65))), "desired.modules"),
        (payload(changed(name="../etc")), "desired.modules.name"),
        (payload(changed(name="")), "desired.modules.name"),
        (payload(changed(bundle="abc")), "desired.modules[m].bundle"),
        (payload(changed(bundle=digest("A"))), "desired.modules[m].bundle"),
        (payload(changed(attempt=-1)), "desired.modules[m].attempt"),
        (payload(changed(version=-1)), "desired.modules[m].version"),
        (payload(changed(soak_s=-1.0)), "desired.modules[m].soak_s"),
        (payload(changed(soak_s=1e9)), "desired.modules[m].soak_s"),
        (payload(changed(capture=Capture(inputs=1.5))), "desired.modules[m].capture.inputs"),
        (payload(changed(sources=("x" * 2000,))), "desired.modules[m].sources"),
        (payload(changed(model="x" * 200)), "desired.modules[m].model"),
        (b"x" * (messages.MAX_MESSAGE_BYTES + 1), "Desired"),
    ],
)
def test_a_message_that_makes_no_sense_is_refused_whole(data: bytes, field: str) -> None:
    with pytest.raises(InvalidError) as caught:
        desired.read(data, "dev-a")

    assert caught.value.field == field


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidError):
        desired.read(data, "dev-a")


@given(
    name=st.text(max_size=70),
    bundle=st.text(max_size=70),
    soak_s=st.floats(),
    inputs=st.floats(),
    generation=st.integers(-(2**63), 2**63 - 1),
)
def test_what_is_read_is_safe_to_use(
    name: str, bundle: str, soak_s: float, inputs: float, generation: int
) -> None:
    wish = {"name": name, "bundle": bundle, "soak_s": soak_s, "capture": {"inputs": inputs}}
    wish |= {"model": "m", "version": 1, "deployment": "d"}
    message = {"device": "dev-a", "generation": generation, "issued_at": 0, "modules": [wish]}
    try:
        (read,) = desired.read(msgspec.json.encode(message), "dev-a").modules
    except InvalidError:
        return

    assert read.name.isascii()
    assert "/" not in read.name
    assert len(read.bundle) == 64
    assert math.isfinite(read.soak_s)
