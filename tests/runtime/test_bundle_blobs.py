import io
import threading
from pathlib import Path

import pytest

from runtime import digests, files
from runtime.bundle.blobs import BlobStore
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError, SpaceError
from tests.support import filesystems

HELLO = digests.of_bytes(b"hello")


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def everything(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_bytes_are_found_by_their_digest(blobs: BlobStore) -> None:
    assert not blobs.has(HELLO)
    assert blobs.put_bytes(b"hello") == HELLO
    with blobs.open(HELLO) as file:
        assert file.read() == b"hello"
    assert (blobs.size(HELLO), list(blobs.digests())) == (5, [HELLO])


def test_a_blob_cannot_be_written_through(blobs: BlobStore) -> None:
    blobs.put_bytes(b"hello")

    assert blobs.path(HELLO).stat().st_mode & 0o777 == 0o400


def test_a_second_put_changes_nothing_and_reads_nothing(blobs: BlobStore) -> None:
    blobs.put_bytes(b"hello")
    before = blobs.path(HELLO).stat().st_ino
    stream = io.BytesIO(b"other")

    assert blobs.put_stream(HELLO, stream, limit_bytes=0) == 5
    assert stream.tell() == 0
    assert blobs.path(HELLO).stat().st_ino == before


@pytest.mark.parametrize(("data", "limit"), [(b"hellO", 5), (b"hell", 5), (b"hello", 4), (b"", 0)])
def test_wrong_bytes_leave_nothing(blobs: BlobStore, data: bytes, limit: int) -> None:
    with pytest.raises(IntegrityError):
        blobs.put_stream(HELLO, io.BytesIO(data), limit_bytes=limit)

    assert everything(blobs.root) == []


def test_a_stream_without_end_is_not_read_to_its_end(blobs: BlobStore) -> None:
    class Endless:
        given = 0

        def read(self, size: int = -1, /) -> bytes:
            self.given += size
            return b"x" * size

    stream = Endless()
    with pytest.raises(IntegrityError, match="at most 5000000 bytes"):
        blobs.put_stream(HELLO, stream, limit_bytes=5_000_000)

    assert stream.given == 5_000_001


def test_a_blob_that_is_not_here_is_named(blobs: BlobStore) -> None:
    with pytest.raises(InvalidError, match=HELLO):
        blobs.size(HELLO)
    with pytest.raises(InvalidError, match=HELLO):
        blobs.open(HELLO)
    blobs.delete(HELLO)


def test_what_is_no_digest_is_no_path(blobs: BlobStore) -> None:
    with pytest.raises(InvalidError, match="64 lower-case"):
        blobs.path(Digest("../../etc/passwd"))


def test_a_blob_that_the_disk_changed_is_found_and_forgotten(blobs: BlobStore) -> None:
    blobs.put_bytes(b"hello")
    blobs.check(HELLO)
    blobs.path(HELLO).chmod(0o600)
    blobs.path(HELLO).write_bytes(b"hellO")

    with pytest.raises(IntegrityError, match="on disk"):
        blobs.check(HELLO)
    assert not blobs.has(HELLO)


def test_many_threads_may_store_the_same_bytes_at_once(blobs: BlobStore) -> None:
    data = bytes(3_000_000)
    start = threading.Barrier(4)

    def put() -> None:
        start.wait()
        blobs.put_bytes(data)

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    blobs.check(digests.of_bytes(data))
    assert len(everything(blobs.root)) == 1


def test_what_a_killed_writer_left_is_swept(blobs: BlobStore) -> None:
    blobs.put_bytes(b"hello")
    blobs.path(HELLO).with_name(f".{HELLO}.1-2{files.TEMPORARY_SUFFIX}").write_bytes(b"hel")

    blobs.sweep()

    assert everything(blobs.root) == [blobs.path(HELLO)]


def test_a_full_disk_is_said_and_leaves_nothing() -> None:
    with filesystems.of_size(megabytes=1) as place:
        blobs = BlobStore(place / "blobs")
        with pytest.raises(SpaceError, match="needs 2000000 bytes"):
            blobs.put_bytes(bytes(2_000_000))
        assert everything(place) == []
