import contextlib
import io
import math
import struct
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edge_agent.worker.sources import decode
from runtime.bundle.index import DataType, Signature, TensorSpec
from runtime.errors import InvalidError
from runtime.inference import tensors


def takes(*shape: int, datatype: DataType = "FP32") -> Signature:
    """A model with the one input x."""
    return Signature(inputs=(TensorSpec("x", datatype, shape),), outputs=())


TWO = Signature(
    inputs=(TensorSpec("a", "FP32", (-1, 1)), TensorSpec("s", "BYTES", (-1,))), outputs=()
)


def read(
    name: str, data: bytes, signature: Signature, scale: float = 1.0
) -> list[dict[str, Any] | str]:
    """What a file gives: conformed inputs as lists, or the error of a row."""
    rows = decode.rows(name, io.BytesIO(data), signature, scale)
    return [
        row.error
        if row.inputs is None
        else {k: v.tolist() for k, v in tensors.conform(signature, row.inputs).items()}
        for row in rows
    ]


def saved(array: np.ndarray[Any, Any]) -> bytes:
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def image(mode: str, pixels: Any, kind: str = "PNG") -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8), mode).save(file, kind)
    return file.getvalue()


def test_an_array_is_the_one_input_and_gets_a_batch_dimension() -> None:
    assert read("a.npy", saved(np.array([1, 2])), takes(-1, 2)) == [{"x": [[1, 2]]}]


def test_an_archive_gives_inputs_by_name() -> None:
    file = io.BytesIO()
    np.savez(file, a=[[1.5]], s=["text"])

    assert read("a.NPZ", file.getvalue(), TWO) == [{"a": [[1.5]], "s": ["text"]}]


@pytest.mark.parametrize(
    ("text", "signature", "rows"),
    [
        ("a,b\n1,2\n3,4\n", takes(-1, 2), [{"x": [[1, 2]]}, {"x": [[3, 4]]}]),
        ("1,2\r\n\r\n3,4", takes(-1, 2), [{"x": [[1, 2]]}, {"x": [[3, 4]]}]),
        ("\ufeffh\n7\n", takes(-1, 1), [{"x": [[7]]}]),
        ("1,2,3,4\n", takes(-1, 2, 2), [{"x": [[[1, 2], [3, 4]]]}]),
        ("1,2,3,4\n", takes(-1, -1), [{"x": [[1, 2, 3, 4]]}]),
        ("5\n", takes(), [{"x": 5}]),
        ("7,8\n", takes(-1, 2, datatype="INT64"), [{"x": [[7, 8]]}]),
        ("true,0\n", takes(-1, 2, datatype="BOOL"), [{"x": [[True, False]]}]),
        ("s,at,a\nhi,now,3\n", TWO, [{"a": [[3]], "s": ["hi"]}]),
    ],
)
def test_rows_are_inputs(text: str, signature: Signature, rows: list[Any]) -> None:
    assert read("r.csv", text.encode(), signature) == rows


def test_an_empty_cell_is_a_missing_number() -> None:
    (row,) = read("r.csv", b"1,\n", takes(-1, 2))

    assert isinstance(row, dict)
    assert math.isnan(row["x"][0][1])


def test_a_first_row_of_text_is_a_header_also_where_text_is_taken() -> None:
    assert read("r.csv", b"word\nhi\n", takes(-1, 1, datatype="BYTES")) == [{"x": [["hi"]]}]


def test_a_row_that_is_wrong_is_told_and_the_others_come() -> None:
    rows = read("r.csv", b"a,b\n1,2\n1\nx,2\n3,4\n", takes(-1, 2))

    assert rows[0] == {"x": [[1, 2]]}
    assert "row 2: inputs[x]: '1 columns' is not accepted" in str(rows[1])
    assert "row 3: could not convert" in str(rows[2])
    assert rows[3] == {"x": [[3, 4]]}


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((-1, 3, 1, 2), [[[[10, 40]], [[20, 50]], [[30, 60]]]]),
        ((-1, -1, -1, 3), [[[[10, 20, 30], [40, 50, 60]]]]),
        ((1, 3, -1, -1), [[[[10, 40]], [[20, 50]], [[30, 60]]]]),
    ],
)
def test_a_colour_image_is_laid_out_as_the_input_wants(
    shape: tuple[int, ...], wanted: list[Any]
) -> None:
    data = image("RGB", [[[10, 20, 30], [40, 50, 60]]])

    assert read("i.png", data, takes(*shape)) == [{"x": wanted}]


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((-1, 4), [[0, 1, 2, 4]]),
        ((-1, 2, 2), [[[0, 1], [2, 4]]]),
        ((-1, 1, 2, 2), [[[[0, 1], [2, 4]]]]),
    ],
)
def test_a_grey_image_is_scaled_and_flattened(shape: tuple[int, ...], wanted: list[Any]) -> None:
    data = image("L", [[0, 64], [128, 255]])

    (row,) = read("i.png", data, takes(*shape), scale=4 / 255)

    assert isinstance(row, dict)
    np.testing.assert_allclose(row["x"], wanted, atol=0.01)


def test_an_image_of_another_size_and_kind_is_fitted() -> None:
    data = image("L", np.full((30, 40), 200), "JPEG")

    (row,) = read("i.jpeg", data, takes(-1, 8, 8, 3, datatype="UINT8"))

    assert isinstance(row, dict)
    assert np.shape(row["x"]) == (1, 8, 8, 3)
    np.testing.assert_allclose(row["x"], 200, atol=2)


def bomb() -> bytes:
    """A .npz that unfolds to more than it may."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(257):
            member.write(bytes(1 << 20))
    return file.getvalue()


def promising() -> bytes:
    """A .npy that says it holds 4 EB."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000000,), }"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n"


@pytest.mark.parametrize(
    ("name", "data", "signature"),
    [
        ("a.npy", b"", takes(-1, 2)),
        ("a.npy", b"no array", takes(-1, 2)),
        ("a.npy", saved(np.array([{}], dtype=object)), takes(-1, 2)),
        ("a.npy", saved(np.ones(2)), TWO),
        ("a.npy", promising(), takes(-1, 2)),
        ("a.npz", b"PK no zip", TWO),
        ("a.npz", bomb(), TWO),
        ("r.csv", b"", takes(-1, 2)),
        ("r.csv", b"a,b\n", takes(-1, 2)),
        ("r.csv", b"\xff\xfe1,2", takes(-1, 2)),
        ("r.csv", b"a,b\n1,2\n", TWO),
        ("i.png", b"\x89PNG\r\n\x1a\n", takes(-1, 4)),
        ("i.png", image("L", np.zeros((4, 4)))[:-30], takes(-1, 4)),
        ("i.png", image("L", np.zeros((4, 4))), takes(-1, 5)),
        ("i.png", image("L", np.zeros((4, 4))), TWO),
        ("t.txt", b"text", takes(-1, 2)),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    name: str, data: bytes, signature: Signature
) -> None:
    with pytest.raises(InvalidError):
        read(name, data, signature)


@settings(max_examples=60)
@given(
    suffix=st.sampled_from(decode.SUFFIXES),
    signature=st.sampled_from([takes(-1, 4), TWO]),
    start=st.sampled_from(
        [b"", b"\x93NUMPY", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]
    ),
    rest=st.binary(max_size=200),
)
def test_any_bytes_are_read_or_refused(
    suffix: str, signature: Signature, start: bytes, rest: bytes
) -> None:
    """Nothing but InvalidError comes out, whatever was put in."""
    with contextlib.suppress(InvalidError):
        read(f"a{suffix}", start + rest, signature)
