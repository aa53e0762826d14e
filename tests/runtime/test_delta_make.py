from pathlib import Path

import numpy as np
import pytest

from runtime import files
from runtime.bundle import encodings
from runtime.bundle.delta import apply, make
from runtime.bundle.delta.make import Summary
from runtime.errors import InvalidError
from tests.support import delta_graphs

BASE = delta_graphs.weights(width=96)
TUNED = delta_graphs.tuned(BASE)


def make_of(place: Path, old: bytes | None, new: bytes, encoding: str = make.AUTO) -> Summary:
    """Make a delta in a directory and check that it makes the new file."""
    (place / "new").write_bytes(new)
    base = None if old is None else place / "old"
    if old is not None:
        (place / "old").write_bytes(old)
    summary = make.make(place / "new", place / "delta", old=base, encoding=encoding)
    if summary.encoding != encodings.ZSTD:
        apply.apply_file(base, place / "delta", place / "back")
        assert (place / "back").read_bytes() == new
    return summary


@pytest.mark.parametrize(
    "written",
    [delta_graphs.onnx_file, delta_graphs.safetensors_file],
    ids=["onnx", "safetensors"],
)
def test_a_tuned_model_travels_as_a_tensor_delta_of_little_more_than_half(
    written: object, tmp_path: Path
) -> None:
    assert callable(written)
    made = make_of(tmp_path, written(BASE), written(TUNED))

    assert made.encoding == encodings.TENSOR_DELTA
    assert made.delta_bytes < 0.58 * made.new_bytes


def test_text_travels_as_a_patch(tmp_path: Path) -> None:
    old = b"".join(b"line %d of the settings\n" % n for n in range(3000))

    made = make_of(tmp_path, old, old.replace(b"line 700 ", b"line seven hundred "))

    assert (made.encoding, made.delta_bytes < 250) == (encodings.PATCH, True)


def test_without_an_old_file_a_model_travels_in_planes(tmp_path: Path) -> None:
    made = make_of(tmp_path, None, delta_graphs.onnx_file(BASE))

    assert made.encoding == encodings.PLANES
    assert made.delta_bytes < 0.93 * made.new_bytes


@pytest.mark.parametrize("encoding", encodings.KNOWN)
def test_each_encoding_can_be_asked_for(encoding: str, tmp_path: Path) -> None:
    old = delta_graphs.onnx_file(BASE) if encoding in encodings.BUILDING else None

    assert make_of(tmp_path, old, delta_graphs.onnx_file(TUNED), encoding).encoding == encoding


@pytest.mark.parametrize(
    ("old", "new"), [(b"", b""), (b"", b"something"), (b"something", b""), (b"same", b"same")]
)
def test_nothing_is_a_file_too(old: bytes, new: bytes, tmp_path: Path) -> None:
    make_of(tmp_path, old, new)


def test_the_same_files_give_the_same_delta(tmp_path: Path) -> None:
    """A device half-way through a download can go on after the registry made it again."""
    pair = delta_graphs.onnx_file(BASE), delta_graphs.onnx_file(TUNED)
    make_of(tmp_path, *pair)
    first = (tmp_path / "delta").read_bytes()
    make_of(tmp_path, *pair)

    assert (tmp_path / "delta").read_bytes() == first


def test_what_an_onnx_file_says_of_the_file_beside_it_is_used(tmp_path: Path) -> None:
    """A layer was added: guessing at places would not do."""
    added = {"new.weight": np.ones((5, 5), np.float32), **TUNED}
    for name, layers in (("old", BASE), ("new", added)):
        (tmp_path / name).write_bytes(delta_graphs.raw_file(layers))

    made = make.make(
        tmp_path / "new",
        tmp_path / "delta",
        old=tmp_path / "old",
        old_tensors=delta_graphs.placed(BASE),
        new_tensors=delta_graphs.placed(added),
    )

    assert made.delta_bytes < 0.58 * made.new_bytes


def test_only_the_delta_is_left_behind(tmp_path: Path) -> None:
    make_of(tmp_path, b"old text " * 99, b"new text " * 99)

    assert {path.name for path in tmp_path.iterdir()} == {"old", "new", "delta", "back"}


def test_what_a_killed_run_leaves_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PowerCutError(BaseException):
        """The power went."""

    def cut(_step: str, _path: Path) -> None:
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(files, "commit_point", cut)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(PowerCutError):
            make_of(tmp_path, b"old text " * 99, b"new text " * 99)
    assert list(tmp_path.glob(".*")) != []
    files.sweep_temporaries(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {"old", "new"}


@pytest.mark.parametrize(
    ("encoding", "old"), [("best", None), (encodings.PATCH, None), (encodings.ZSTD, b"old")]
)
def test_an_encoding_that_does_not_fit_is_refused(
    encoding: str, old: bytes | None, tmp_path: Path
) -> None:
    with pytest.raises(InvalidError):
        make_of(tmp_path, old, b"new", encoding)


def test_a_delta_that_needs_more_memory_than_there_is_is_not_made(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).write_bytes(name.encode() * 1000)

    with pytest.raises(InvalidError, match="memory_bytes"):
        make.make(tmp_path / "new", tmp_path / "delta", old=tmp_path / "old", memory_bytes=1000)
    assert not (tmp_path / "delta").exists()
