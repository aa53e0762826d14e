"""Requests to arrays and back, in the event loop and in the codec's process, in the same words."""

import asyncio
import json
import os
import signal
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import pytest

from runtime.bundle.index import DataType
from runtime.errors import InvalidError, ModelError
from runtime.inference import raw
from runtime.inference.tensors import DTYPES, Arrays
from runtime.serving.codec.client import CodecClient
from runtime.serving.codec.reading import Reader
from runtime.serving.errors import CodecError
from runtime.serving.rest import questions, replies
from runtime.serving.rest.questions import Question
from tests.support import signatures
from tests.support.brokers import eventually

Result = TypeVar("Result")
Read = Callable[[bytes, Any], Question]


class Loop:
    """An event loop with a codec."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.codec = CodecClient()

    def run(self, doing: Awaitable[Result]) -> Result:
        """Return what comes of it."""

        async def whole() -> Result:
            return await doing

        return self.loop.run_until_complete(asyncio.wait_for(whole(), 60))


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.run(made.codec.close())
    made.loop.close()


@pytest.fixture(params=["loop", "reader", "process"])
def read(request: pytest.FixtureRequest, loop: Loop) -> Read:
    """Each way to read a request."""
    reader = Reader()
    ways: dict[str, Read] = {
        "loop": lambda body, served: questions.read(body, None, served.specs),
        "reader": lambda body, served: reader.read(body, served.specs),
        "process": lambda body, served: loop.run(loop.codec.read(body, served)),
    }
    return ways[request.param]


def one(datatype: DataType, data: Any, shape: tuple[int, ...] = (2, 2)) -> bytes:
    """Return a request with one input, called like its datatype."""
    values = data if isinstance(data, str) else json.dumps(data)
    tensor = {"name": datatype, "shape": shape, "datatype": datatype, "data": "@"}
    return json.dumps({"id": "r[1]", "inputs": [tensor]}).replace('"@"', values).encode()


@pytest.mark.parametrize(
    ("datatype", "data", "values"),
    [
        ("FP32", [1, 2.5, -3e5, 0.1], [1, 2.5, -3e5, 0.1]),
        ("FP32", [[1, 2], [3, 4]], [1, 2, 3, 4]),
        ("FP32", [[1, None], [3, 4]], [1, np.nan, 3, 4]),
        ("FP32", [True, 1.5, 2, 3], [1, 1.5, 2, 3]),
        ("FP16", [1, 2.5, 65504, 0], [1, 2.5, 65504, 0]),
        ("FP64", [1e300, 9007199254740993, 18446744073709551615, -1], [1e300, 2**53, 2**64, -1]),
        ("INT64", [1, -2, 2**63 - 1, -(2**63)], [1, -2, 2**63 - 1, -(2**63)]),
        ("UINT64", [1, 2, 2**64 - 1, 0], [1, 2, 2**64 - 1, 0]),
        ("INT8", [[1, -128], [127, 0]], [1, -128, 127, 0]),
        ("UINT8", [0, 255, 1, 2], [0, 255, 1, 2]),
        ("UINT32", [0, 2**32 - 1, 1, 2], [0, 2**32 - 1, 1, 2]),
        ("BOOL", [True, False, True, True], [True, False, True, True]),
        ("BYTES", ["a", "[ü]", "", "d\n"], ["a", "[ü]", "", "d\n"]),
    ],
)
def test_values_become_the_array_that_the_model_takes(
    read: Read, datatype: DataType, data: Any, values: list[Any]
) -> None:
    asked = read(one(datatype, data), signatures.of(signatures.SPECS[datatype]))

    array = asked.inputs[datatype]
    wanted = np.array(values, DTYPES[datatype]).reshape(2, 2)
    np.testing.assert_array_equal(array, wanted, strict=True)
    assert (asked.id, asked.wanted, asked.binary) == ("r[1]", None, False)
    assert array.flags.writeable
    assert array.flags.aligned


WRONG: list[tuple[DataType, Any, str]] = [
    ("FP32", [1, 2, 3], "send 4 values"),
    ("FP32", [[1, 2, 3], [4]], "nest evenly"),
    ("FP32", [[1, 2], [3, 4], []], "nest evenly"),
    ("FP32", [[], [1, 2, 3, 4]], "nest evenly"),
    ("FP32", [[1], [2], [3], [4]], "send 4 values"),
    ("FP32", [[[1], [2]], [[3], [4]]], "send 4 values"),
    ("FP32", [1, 2, 3, [4]], "nest evenly"),
    ("FP32", [1, 2, 3, "4"], "'4'"),
    ("FP32", [1, 2, 3, 1e39], "within float32"),
    ("FP16", [1, 2, 3, 65520], "within float16"),
    ("FP32", [True] * 4, "True"),
    ("FP32", [1, 2, 3, 10**400], "within float32"),
    ("INT32", [1, 2, 3, 2**31], "within int32"),
    ("INT32", [1, 2, 3, 1.5], "1.5"),
    ("INT32", [1, 2, 3, None], "None"),
    ("INT32", [True] * 4, "True"),
    ("UINT8", [1, 2, 3, -1], "within uint8"),
    ("BOOL", [1, 0, 1, 0], "true or false"),
    ("BYTES", ["a", "b", "c", 4], "send strings"),
    ("FP32", "7", "$.inputs[0].data"),
    ("FP32", "[1, 2, 3, NaN]", "'NaN at byte"),
    ("FP32", "[1, 2, 3, -Infinity]", "Infinity at byte"),
    ("FP32", "[1, 2, 3, 4", "malformed"),
    ("FP32", "[1, 2, 3, 04]", "invalid number"),
    ("FP32", "[" * 3000, "is not accepted"),  # how deep Python lets it go depends on its version
    ("FP32", "[" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("datatype", "data", "text"), WRONG)
def test_what_is_wrong_is_named(read: Read, datatype: DataType, data: Any, text: str) -> None:
    with pytest.raises(InvalidError) as refused:
        read(one(datatype, data), signatures.of(signatures.SPECS[datatype]))

    assert text in str(refused.value)


GOOD = {"name": "FP32", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}


def said(tensor: dict[str, Any] | None = None, **rest: Any) -> bytes:
    """Return a request with a good input that differs in this, and with the rest."""
    return json.dumps({"inputs": [GOOD | (tensor or {})], **rest}).encode()


BODIES = [
    *(one(datatype, data) for datatype, data, _ in WRONG),
    b"",
    b"{",
    b"[1]",
    b"\xef\xbb\xbf" + said(),
    said().replace(b'"data": [1, 2]', b'"more": 1'),
    said().replace(b'"data": [1, 2]', b'"data": [1], "data": [3, 4]'),
    said().replace(b"FP32", b"FP\xff2"),
    said({"shape": [2, 3]}),
    said({"shape": [1.5, 2]}),
    said({"shape": [-1, 2]}),
    said({"shape": [0, 2], "data": []}),
    said({"shape": [9999999999, 2], "data": []}),
    said({"datatype": "BF16"}),
    said({"name": "q"}),
    said({"parameters": {"binary_data_size": 8}}),
    said(inputs="x"),
    said(inputs=[GOOD, GOOD]),
    said(inputs=[]),
    said(id=7),
    said(id="i" * 300),
    said(outputs=[{"name": "y", "parameters": {"classification": 2}}]),
    said(outputs=[{"name": "y", "parameters": {"binary_data": "yes"}}, {"name": "z"}]),
    said(parameters={"timeout": "soon"}),
    said(
        {"more": {"a": []}},
        parameters={"binary_data_output": True, "timeout": 5_000_000, "x": [[1]]},
        outputs=[{"name": "y"}, {"name": "z", "parameters": {"binary_data": False}}],
        more=[1],
    ),
]


def outcome(read: Read, body: bytes, served: Any) -> Any:
    """Return what comes of a request, as a value."""
    try:
        asked = read(body, served)
    except InvalidError as error:
        return error.field, error.fix, str(error)
    inputs = {name: (array.dtype, array.tolist()) for name, array in asked.inputs.items()}
    return inputs, asked.id, asked.wanted, asked.binary, asked.timeout_s


@pytest.mark.parametrize("body", BODIES)
def test_every_way_comes_to_the_same(read: Read, body: bytes) -> None:
    name = next((n for n in signatures.SPECS if b'"%b"' % n.encode() in body), "FP32")
    served = signatures.of(signatures.SPECS[name])

    def plainly(body: bytes, served: Any) -> Question:
        return questions.read(body, None, served.specs)

    assert outcome(read, body, served) == outcome(plainly, body, served)


def binary(datatype: DataType, array: Any, **parameters: Any) -> tuple[bytes, int]:
    """Return a request in the binary extension, and where its JSON ends."""
    data = raw.encode(np.array(array, DTYPES[datatype]))
    said = {"binary_data_size": len(data)} | parameters
    tensor = {"name": datatype, "shape": [2, 2], "datatype": datatype, "parameters": said}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + data, len(head)


@pytest.mark.parametrize("datatype", DTYPES)
def test_tensors_come_as_bytes(datatype: DataType) -> None:
    values = [["a", "ü"], ["", "d"]] if datatype == "BYTES" else [[0, 1], [1, 0]]
    body, json_bytes = binary(datatype, values)
    for held in (body, memoryview(bytearray(b"." + body))[1:]):
        asked = questions.read(held, json_bytes, {datatype: signatures.SPECS[datatype]})

        array = asked.inputs[datatype]
        np.testing.assert_array_equal(array, np.array(values, DTYPES[datatype]), strict=True)
        assert array.flags.aligned


@pytest.mark.parametrize(
    ("cut", "parameters", "text"),
    [
        (-1, {}, "15 bytes"),
        (1, {}, "behind the JSON"),
        (0, {"binary_data_size": 15}, "15 raw bytes"),
        (0, {"binary_data_size": 17}, "its binary_data_size is 17"),
        (0, {"binary_data_size": -1}, "0 or more"),
        (0, {"binary_data_size": 2**40}, "its binary_data_size"),
        (0, {"binary_data_size": "16"}, "'16'"),
        (0, {"binary_data_size": True}, "True"),
        (0, {"binary_data_size": None}, "data"),
        (0, {"shared_memory_region": "r"}, "shared memory"),
    ],
)
def test_bytes_that_do_not_add_up_are_refused(
    cut: int, parameters: dict[str, Any], text: str
) -> None:
    body, json_bytes = binary("FP32", [[1, 2], [3, 4]], **parameters)
    body = body + b"x" * cut if cut > 0 else body[: len(body) + cut]

    with pytest.raises(InvalidError) as refused:
        questions.read(body, json_bytes, {"FP32": signatures.SPECS["FP32"]})

    assert text in str(refused.value)


@pytest.mark.parametrize("lengths", [(1, 1, 1, 2**31), (4, 4, 4, 4), (0, 0, 0)])
def test_lengths_of_texts_are_not_believed(lengths: tuple[int, ...]) -> None:
    data = b"".join(struct.pack("<I", length) + b"x" for length in lengths)
    spec = signatures.SPECS["BYTES"]

    with pytest.raises(InvalidError):
        raw.decode("x", data, (2, 2), spec)


def answer(served: Any, asked: Question, outputs: Arrays) -> tuple[Any, bytes]:
    """Return an answer's JSON, parsed, and what follows it."""
    given = replies.write(served, asked, outputs)
    return json.loads(bytes(given.pieces[0])), b"".join(given.pieces[1:])


def test_outputs_go_as_values_or_bytes_as_asked() -> None:
    served = signatures.of()
    outputs = {"a": np.array([[1.5, np.nan]], np.float32), "b": np.array(["x", "ü"], object)}
    asked = Question({}, "7")

    said, tail = answer(served, asked, outputs)
    assert [each["data"] for each in said["outputs"]] == [[1.5, None], ["x", "ü"]]
    assert (said["id"], tail) == ("7", b"")

    asked.binary = {"a": True, "b": False}
    said, tail = answer(served, asked, outputs)
    assert [each.get("parameters") for each in said["outputs"]] == [{"binary_data_size": 8}, None]
    assert tail == outputs["a"].tobytes()

    asked.binary = True
    said, tail = answer(served, asked, outputs)
    assert tail == outputs["a"].tobytes() + b"\x01\0\0\0x\x02\0\0\0\xc3\xbc"


def test_a_large_answer_is_the_same_from_the_codec(loop: Loop) -> None:
    served, asked = signatures.of(), Question({}, "7")
    outputs: Arrays = {
        "a": np.arange(20_000, dtype=np.float32).reshape(100, 200) / 7,
        "b": np.array([["x"], ["ü"]], object),
        "c": np.array([[np.inf, np.nan]]),
        "d": np.zeros((0, 3), np.int8),
    }

    body = loop.run(loop.codec.write(served, asked, outputs))

    assert bytes(body) == replies.body_of(served, asked, outputs)
    with pytest.raises(ModelError, match="no text"):
        loop.run(loop.codec.write(served, asked, {"b": np.array([b"\xff"], object)}))


def test_a_codec_that_dies_is_replaced_and_the_request_tried_again(loop: Loop) -> None:
    served = signatures.of(signatures.SPECS["FP32"])
    body = one("FP32", [1, 2, 3, 4])
    loop.run(loop.codec.start())
    before = loop.codec.pid
    assert before is not None

    async def killed_meanwhile() -> Question:
        os.kill(before, signal.SIGSTOP)
        reading = asyncio.ensure_future(loop.codec.read(body, served))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        os.kill(before, signal.SIGKILL)
        return await reading

    asked = loop.run(killed_meanwhile())

    assert asked.inputs["FP32"].tolist() == [[1, 2], [3, 4]]
    assert loop.codec.pid not in {None, before}


def test_a_job_that_kills_the_codec_twice_fails_alone(loop: Loop) -> None:
    served = signatures.of(signatures.SPECS["FP32"])
    body = one("FP32", [1, 2, 3, 4])

    async def killed() -> Question:
        """Ask a codec that is killed whenever it is there."""
        reading = asyncio.ensure_future(loop.codec.read(body, served))
        while not reading.done():
            if loop.codec.pid is not None:
                os.kill(loop.codec.pid, signal.SIGKILL)
            await asyncio.sleep(0.001)
        return await reading

    with pytest.raises(CodecError):
        loop.run(killed())
    assert loop.run(loop.codec.read(body, served)).inputs["FP32"].size == 4


def test_a_request_that_is_cancelled_does_not_confuse_the_next(loop: Loop) -> None:
    served = signatures.of(signatures.SPECS["FP32"])

    async def story() -> list[float]:
        gone = asyncio.ensure_future(loop.codec.read(one("FP32", [9, 9, 9, 9]), served))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gone.cancel()
        asked = await loop.codec.read(one("FP32", [1, 2, 3, 4]), served)
        return list(asked.inputs["FP32"].ravel())

    assert loop.run(story()) == [1, 2, 3, 4]


def test_a_codec_does_not_outlive_its_server(loop: Loop) -> None:
    loop.run(loop.codec.start())
    pid = loop.codec.pid
    assert pid is not None

    loop.run(loop.codec.close())

    eventually(lambda: not os.path.exists(f"/proc/{pid}/exe"), "the process is gone")  # noqa: PTH110 - a link to nothing counts
