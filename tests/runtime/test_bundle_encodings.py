import random
from pathlib import Path

import pytest
import zstandard

from runtime import digests
from runtime.bundle import encodings
from runtime.bundle.blobs import BlobStore
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

DATA = random.Random(1).randbytes(2_500_000) + bytes(500_000)


def decoded(encoded: Path, place: Path, *, size: int, sha256: Digest) -> BlobStore:
    target = BlobStore(place)
    encodings.decode("zstd", encoded, target, size=size, sha256=sha256)
    return target


def test_unknown_encodings_are_refused(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)

    with pytest.raises(InvalidError, match="this version reads"):
        encodings.decode("lzma", tmp_path, blobs, size=1, sha256=digests.of_bytes(b""))
    with pytest.raises(InvalidError, match="this version writes"):
        encodings.encode("lzma", tmp_path, tmp_path / "encoded")


def test_more_bytes_than_promised_are_never_written(tmp_path: Path) -> None:
    """A thousand times the promised size, in a few bytes."""
    bomb = tmp_path / "bomb"
    bomb.write_bytes(zstandard.compress(bytes(1_000_000)))

    with pytest.raises(IntegrityError, match="at most 1000 bytes"):
        decoded(bomb, tmp_path / "device", size=1000, sha256=digests.of_bytes(bytes(1_000_000)))
    assert [path for path in (tmp_path / "device").rglob("*") if path.is_file()] == []


def test_a_window_that_would_eat_the_memory_is_refused(tmp_path: Path) -> None:
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, enable_ldm=True)
    encoded = tmp_path / "wide"
    writer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    encoded.write_bytes(writer.compress(DATA) + writer.flush())

    with pytest.raises(IntegrityError, match="wanted a zstd stream"):
        decoded(encoded, tmp_path / "device", size=len(DATA), sha256=digests.of_bytes(DATA))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_encoding_leaves_nothing(tmp_path: Path, damage: str) -> None:
    whole = bytearray(zstandard.compress(DATA))
    match damage:
        case "cut":
            del whole[len(whole) // 2 :]
        case "flip":
            whole[len(whole) // 2] ^= 1
        case "empty":
            whole.clear()
        case _:
            whole[:] = b"<html>please log in</html>"
    encoded = tmp_path / "encoded"
    encoded.write_bytes(whole)

    with pytest.raises(IntegrityError):
        decoded(encoded, tmp_path / "device", size=len(DATA), sha256=digests.of_bytes(DATA))
    assert [path for path in (tmp_path / "device").rglob("*") if path.is_file()] == []
