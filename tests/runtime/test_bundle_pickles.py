import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle import pickles
from tests.support import models
from tests.support.scripts import zipped

ONE_THIRD = Fraction(1, 3)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # names are keys
    return buffer.getvalue()


def found(tmp_path: Path, path: str, data: bytes) -> bool:
    (tmp_path / "file").write_bytes(data)
    return pickles.is_pickle(path, lambda: (tmp_path / "file").open("rb"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "wrap",
    [bytes, gzip.compress, bz2.compress, lzma.compress, zlib.compress, lambda d: zipped(data=d)],
    ids=["plain", "gzip", "bz2", "xz", "zlib", "zip"],
)
def test_a_pickle_is_known_by_its_content_whatever_it_is_called(
    tmp_path: Path, protocol: int, wrap: object
) -> None:
    assert found(tmp_path, "weights.bin", wrap(pickle.dumps(ONE_THIRD, protocol)))  # type: ignore[operator]


def test_a_large_pickle_is_known_by_its_beginning(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(300_000)

    assert found(tmp_path, "a", pickle.dumps([ONE_THIRD, noise]))
    assert found(tmp_path, "a", gzip.compress(pickle.dumps([ONE_THIRD, noise])))


@pytest.mark.parametrize("name", ["m.pkl", "m.pickle", "sub/M.JOBLIB", "m.pt", "m.pth", "m.dill"])
def test_a_name_that_says_pickle_is_believed(tmp_path: Path, name: str) -> None:
    assert found(tmp_path, name, b"anything")
    assert found(tmp_path, "model.zip", zipped(**{name.replace(".", "__"): b"anything"}))


@pytest.mark.parametrize(
    "array",
    [np.array([{}, None], dtype=object), np.array([(1, {})], dtype=[("a", int), ("b", "O")])],
)
def test_arrays_of_objects_are_pickles(tmp_path: Path, array: np.ndarray) -> None:
    assert found(tmp_path, "table.npy", npy(array))
    assert found(tmp_path, "tables.npz", npz(a=np.zeros(3), b=array))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"c",
        b"cat\ndog\nowl\n",
        b"(a) first\nl\n.",
        b"class A:\n    pass\n",
        json.dumps({"a": [1, 2]}).encode(),
        b"name: scale\nkind: onnx\ncheck: {inputs: a.npz}\n",
        np.arange(10_000, dtype=np.float32).tobytes(),
        npy(np.zeros((3, 3))),
        npy(np.array(["One", "Object"])),
        npz(x=np.zeros(5), names=np.array(["O"])),
        models.mlp_model(),
        gzip.compress(b"a,b\n1,2\n", mtime=0),
        zipped(readme__txt=b"cat\ndog\n"),
        b"PK\x03\x04 and then nothing of a zip",
        b"\x1f\x8b and then nothing of a gzip",
    ],
)
def test_data_is_no_pickle(tmp_path: Path, data: bytes) -> None:
    assert not found(tmp_path, "data", data)


def test_wheels_are_the_scripts_business(tmp_path: Path) -> None:
    data = zipped(tests__pkl=pickle.dumps(ONE_THIRD))

    assert not found(tmp_path, "wheels/tiny-1.0-py3-none-any.whl", data)
    assert found(tmp_path, "elsewhere/tiny-1.0-py3-none-any.whl", data)


def test_a_zip_that_lists_too_much_is_not_looked_into_and_counts_as_one(tmp_path: Path) -> None:
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 1, 1, 0xFFFFFFFF, 0, 0)

    assert found(tmp_path, "a.zip", b"PK\x03\x04" + bytes(100) + end)


def test_those_of_a_bundle_are_named_in_order(tmp_path: Path) -> None:
    for name in ("z.bin", "a.bin"):
        (tmp_path / name).write_bytes(pickle.dumps(ONE_THIRD))
    (tmp_path / "b.txt").write_bytes(b"data")

    assert pickles.find_below(tmp_path, ["z.bin", "b.txt", "a.bin"]) == ("a.bin", "z.bin")
