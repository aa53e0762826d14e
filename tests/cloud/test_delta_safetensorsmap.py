import io
import json
import random
import struct
import zipfile

import numpy as np
import pytest

from runtime.bundle.delta import archivemap, ggufmap, safetensorsmap
from runtime.bundle.delta.plan import ElementType, TensorExtent
from tests.support import delta_graphs


def contents(data: bytes, extents: tuple[TensorExtent, ...] | None) -> dict[str, bytes]:
    assert extents is not None
    return {each.name: data[each.offset : each.offset + each.length] for each in extents}


def safetensors(header: object, body: bytes = b"") -> memoryview:
    text = json.dumps(header).encode()
    return memoryview(len(text).to_bytes(8, "little") + text + body)


def test_safetensors_are_found_where_their_bytes_lie() -> None:
    layers = delta_graphs.weights()
    data = delta_graphs.safetensors_file(layers)

    found = safetensorsmap.read(memoryview(data))

    assert contents(data, found) == {name: array.tobytes() for name, array in layers.items()}
    assert {extent.shape for extent in found or ()} == {a.shape for a in layers.values()}


def test_a_file_of_the_safetensors_package_is_read() -> None:
    package = pytest.importorskip("safetensors.numpy", reason="it comes with the [dev] extra")
    arrays = {"half": np.ones((2, 3), np.float16), "steps": np.arange(4)}
    data = package.save(arrays)

    found = safetensorsmap.read(memoryview(data))

    assert contents(data, found) == {name: array.tobytes() for name, array in arrays.items()}
    assert {each.name: each.type for each in found or ()} == {
        "half": ElementType.FP16,
        "steps": ElementType.INT64,
    }


@pytest.mark.parametrize(
    "data",
    [
        memoryview(b""),
        memoryview((1 << 60).to_bytes(8, "little") + b"{}"),
        memoryview((2).to_bytes(8, "little") + b"{]"),
        memoryview((200_000).to_bytes(8, "little") + b'{"a":' + b"[" * 200_000),
        safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}),
        safetensors({"a": 1}, b"1234"),
        safetensors(
            {
                "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                "b": {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]},
            },
            b"123456",
        ),
    ],
    ids=["empty", "huge header", "no JSON", "nested", "outside", "no entry", "overlap"],
)
def test_a_header_that_cannot_be_right_makes_plain_bytes(data: memoryview) -> None:
    assert safetensorsmap.read(data) is None


def test_arrays_of_numpy_are_found_stored_in_a_zip_or_alone() -> None:
    array = np.arange(300, dtype=np.float64).reshape(3, 100)
    zipped, alone = io.BytesIO(), io.BytesIO()
    np.savez(zipped, first=array, second=array.astype(np.int8))
    np.save(alone, array)

    found = archivemap.read(memoryview(zipped.getvalue()))
    single = archivemap.read(memoryview(alone.getvalue()))

    assert contents(zipped.getvalue(), found) == {
        "first.npy": array.tobytes(),
        "second.npy": array.astype(np.int8).tobytes(),
    }
    assert list(contents(alone.getvalue(), single).values()) == [array.tobytes()]


def test_a_storage_in_a_checkpoint_counts_if_it_looks_like_numbers() -> None:
    weights = np.random.default_rng(0).normal(0, 1, 20_000).astype(np.float32).tobytes()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"not numbers " * 2000)
        archive.writestr("archive/data/0", weights)
        archive.writestr("archive/packed", weights, zipfile.ZIP_DEFLATED)

    found = archivemap.read(memoryview(file.getvalue()))

    assert contents(file.getvalue(), found) == {"archive/data/0": weights}
    assert found is not None
    assert found[0].type is ElementType.FP32


def test_a_gguf_file_says_where_its_tensors_are() -> None:
    weights, blocks = np.arange(8, dtype=np.float32).tobytes(), bytes(34)
    data = gguf(weights + blocks + bytes(30))

    assert contents(data, ggufmap.read(memoryview(data))) == {
        "w": weights,
        "q": blocks + bytes(30),
    }


def gguf(body: bytes) -> bytes:
    """Return a file of a float tensor of 2 x 4 and a block-quantised one behind it."""

    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    head = b"GGUF" + struct.pack("<IQQ", 3, 2, 2)
    head += text(b"names") + struct.pack("<IIQ", 9, 8, 2) + text(b"a") + text(b"b")
    head += text(b"general.alignment") + struct.pack("<II", 4, 32)
    head += text(b"w") + struct.pack("<IQQIQ", 2, 4, 2, 0, 0)
    head += text(b"q") + struct.pack("<IQIQ", 1, 32, 8, 32)
    return head + bytes(-len(head) % 32) + body


@pytest.mark.parametrize("kind", ["safetensors", "npz", "gguf"])
def test_no_damage_makes_a_reader_fail_or_point_outside_the_file(kind: str) -> None:
    rng = random.Random(3)
    zipped = io.BytesIO()
    np.savez(zipped, a=np.arange(9.0), b=np.arange(5))
    whole, reader = {
        "safetensors": (
            delta_graphs.safetensors_file(delta_graphs.weights(width=4)),
            safetensorsmap.read,
        ),
        "npz": (zipped.getvalue(), archivemap.read),
        "gguf": (gguf(bytes(96)), ggufmap.read),
    }[kind]
    for _ in range(300):
        data = bytearray(whole[: rng.randrange(1, len(whole) + 1)])
        for _ in range(rng.randrange(6)):
            data[rng.randrange(len(data))] = rng.randrange(256)

        found = reader(memoryview(bytes(data))) or ()

        assert all(0 <= e.offset <= e.offset + e.length <= len(data) for e in found)
