import os
import stat
from pathlib import Path

import pytest

from runtime import errors, files


class PowerCutError(BaseException):
    """The power fails here."""


def cut_power_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the n-th commit point, counted from 0, be the last thing that happens."""
    seen = iter(range(1000))

    def commit_point(_what: str, _path: Path) -> None:
        if next(seen) == step:
            raise PowerCutError

    monkeypatch.setattr(files, "commit_point", commit_point)


@pytest.mark.parametrize("step", [0, 1])
def test_a_power_cut_before_the_rename_leaves_the_old_content(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "state.json"
    files.write_atomic(target, b"old")
    cut_power_at(step, monkeypatch)

    with pytest.raises(PowerCutError):
        files.write_atomic(target, b"new")

    assert target.read_bytes() == b"old"


def test_a_power_cut_after_the_rename_leaves_the_new_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "state.json"
    files.write_atomic(target, b"old")
    cut_power_at(2, monkeypatch)

    with pytest.raises(PowerCutError):
        files.write_atomic(target, b"new")

    assert target.read_bytes() == b"new"


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    def fail() -> None:
        with files.replacing(tmp_path / "x") as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert list(tmp_path.iterdir()) == []


def test_what_an_interrupted_write_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".x.123.tmp").write_bytes(b"half")
    (tmp_path / "x").write_bytes(b"whole")

    files.sweep_temporaries(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.write_json(tmp_path / "secret.json", {"key": "x"})
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "secret.json").stat().st_mode) == 0o600


def test_removing_takes_files_directories_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "directory")

    files.remove(tmp_path / "link")
    assert (tmp_path / "directory" / "file").exists()
    files.remove(tmp_path / "directory")
    files.remove(tmp_path / "directory")

    assert list(tmp_path.iterdir()) == []


def test_lack_of_space_names_the_place_the_need_and_the_room(tmp_path: Path) -> None:
    with pytest.raises(errors.SpaceError, match=r"needs 1152921504606846976 bytes and has \d+"):
        files.require_space(tmp_path, 1 << 60)


@pytest.mark.parametrize("text", ["model.onnx", "golden/inputs.npz", "a b/ü.txt", "..a/b.."])
def test_a_path_below_the_bundle_is_taken(text: str) -> None:
    assert str(files.relative_path(text)) == text


@pytest.mark.parametrize(
    "text", ["", "/etc/passwd", "..", "a/../b", "./a", "a//b", "a/", "a\\b", "a\0b", "a/./b", "."]
)
def test_a_path_that_leaves_the_bundle_or_has_two_spellings_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidError, match="relative path"):
        files.relative_path(text)
