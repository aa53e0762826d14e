from pathlib import Path

import pytest

from edge_agent.bundles.releases import Releases
from runtime.bundle.build import Built, build
from runtime.errors import IntegrityError, InvalidError
from tests.support import bundle_sources


def stored(releases: Releases, directory: Path, *, factor: float) -> Built:
    """Return a bundle whose blobs are all on the device."""
    built = build(bundle_sources.write_checked_bundle(directory, factor=factor))
    releases.blobs.put_bytes(built.index_bytes)
    for digest, path in built.files.items():
        releases.blobs.put_file(digest, path)
    return built


def damage(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_bundle_that_is_laid_out_can_be_read(tmp_path: Path) -> None:
    releases = Releases(tmp_path / "data")
    built = stored(releases, tmp_path / "b", factor=2.0)

    assert releases.lay_out(built.digest) == built.index
    assert releases.index(built.digest) == built.index
    assert (releases.directory(built.digest) / "model.onnx").exists()


def test_a_bundle_without_its_index_is_fetched_again(tmp_path: Path) -> None:
    releases = Releases(tmp_path / "data")
    built = build(bundle_sources.write_checked_bundle(tmp_path / "b"))

    with pytest.raises(IntegrityError):
        releases.lay_out(built.digest)
    with pytest.raises(InvalidError, match="its files are gone"):
        releases.index(built.digest)


def test_a_damaged_file_is_noticed_and_removed_so_that_it_is_fetched_again(tmp_path: Path) -> None:
    releases = Releases(tmp_path / "data")
    built = stored(releases, tmp_path / "b", factor=2.0)
    releases.lay_out(built.digest)
    damage(releases.directory(built.digest) / "model.onnx")

    with pytest.raises(IntegrityError):
        releases.lay_out(built.digest)

    assert not releases.directory(built.digest).exists()
    stored(releases, tmp_path / "b", factor=2.0)
    releases.lay_out(built.digest)


def test_a_damaged_copy_beside_good_blobs_is_laid_out_again(tmp_path: Path) -> None:
    releases = Releases(tmp_path / "data")
    built = stored(releases, tmp_path / "b", factor=2.0)
    releases.lay_out(built.digest)
    model = releases.directory(built.digest) / "model.onnx"
    model.unlink()
    model.write_bytes(b"something else")

    releases.lay_out(built.digest)

    assert model.read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()


def test_a_damaged_index_is_not_believed(tmp_path: Path) -> None:
    releases = Releases(tmp_path / "data")
    built = stored(releases, tmp_path / "b", factor=2.0)
    releases.lay_out(built.digest)
    damage(releases.directory(built.digest) / ".index.json")

    with pytest.raises(InvalidError, match="damaged"):
        releases.index(built.digest)


def test_collecting_keeps_what_is_referred_to_and_nothing_else(tmp_path: Path) -> None:
    releases = Releases(tmp_path / "data")
    kept = stored(releases, tmp_path / "kept", factor=2.0)
    gone = stored(releases, tmp_path / "gone", factor=3.0)
    for built in (kept, gone):
        releases.lay_out(built.digest)

    assert releases.collect({kept.digest}) > 0

    assert set(releases.blobs.digests()) == {kept.digest, *kept.files}
    assert not releases.directory(gone.digest).exists()
    releases.lay_out(kept.digest)
    assert releases.collect({kept.digest}) == 0


def test_collecting_keeps_the_blobs_of_a_bundle_whose_download_is_not_over(tmp_path: Path) -> None:
    releases = Releases(tmp_path / "data")
    built = stored(releases, tmp_path / "b", factor=2.0)
    missing = next(iter(built.files))
    releases.blobs.delete(missing)

    releases.collect({built.digest})

    assert set(releases.blobs.digests()) == {built.digest, *built.files} - {missing}


def test_what_a_killed_agent_left_half_made_is_swept_away(tmp_path: Path) -> None:
    Releases(tmp_path / "data")
    leftover = tmp_path / "data" / "bundles" / ".abc.12.tmp"
    leftover.mkdir()

    Releases(tmp_path / "data")

    assert not leftover.exists()
