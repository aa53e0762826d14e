"""The pieces under the stores: the directory's durability, the bounded cache, what URLs mean."""

import os
import threading
import time
from pathlib import Path

import pytest

from cloud.errors import StoreError
from cloud.settings import Settings
from cloud.storage import opening
from cloud.storage.blobs import Blobs, key_of
from cloud.storage.bucket import Bucket, Patience
from cloud.storage.cache import FileCache
from cloud.storage.directory import Directory
from cloud.storage.uploads import Limits, Uploads
from runtime import digests
from runtime.errors import IntegrityError, InvalidError, SpaceError
from tests.support import filesystems, powercuts, s3
from tests.support.registries import SetClock

CONTENT = b"content"
DIGEST = digests.of_bytes(CONTENT)


def test_after_a_power_cut_an_object_is_whole_or_absent(tmp_path: Path) -> None:
    """The power fails at each moment of a store in turn; the next start stores it again."""
    for last in range(100):
        root = tmp_path / str(last)
        with powercuts.after(last) as steps:
            Blobs(Directory(root)).put_bytes(CONTENT)
        again = Blobs(Directory(root))
        assert again.find(DIGEST) in {None, len(CONTENT)}
        assert not list((root / "incoming").iterdir())
        assert again.put_bytes(CONTENT) == DIGEST
        assert b"".join(again.read(DIGEST)) == CONTENT
        if steps.seen < last:
            break
    assert last > 3, "there were moments to fail at"


def test_nobody_else_can_read_what_a_directory_keeps(tmp_path: Path) -> None:
    root = tmp_path / "data"
    Blobs(Directory(root)).put_bytes(CONTENT)

    assert {path.stat().st_mode & 0o077 for path in (root, *root.rglob("*"))} == {0}


def test_a_full_disk_is_told_and_leaves_nothing() -> None:
    with filesystems.of_size(megabytes=4) as place:
        blobs = Blobs(Directory(place))
        large = os.urandom(8 << 20)
        with pytest.raises(SpaceError):
            blobs.put_bytes(large)

        assert not list((place / "incoming").iterdir())
        assert blobs.put_bytes(CONTENT) == DIGEST


def test_a_full_disk_refuses_parts_and_keeps_what_came() -> None:
    with filesystems.of_size(megabytes=24) as place:
        limits = Limits(blob_bytes=1 << 30, count=9, total_bytes=1 << 40, ttl_s=9)
        uploads = Uploads(place / "uploads", Blobs(Directory(place)), SetClock(), limits)
        with pytest.raises(SpaceError):
            uploads.begin("key:test", DIGEST, 100 << 20)
        part = os.urandom(8 << 20)
        upload = uploads.begin("key:test", digests.of_bytes(part), 10 << 20)
        (place / "filler").write_bytes(bytes(20 << 20))
        (place / "part").symlink_to("/dev/zero")
        with (place / "part").open("rb") as endless, pytest.raises(SpaceError):
            uploads.put_part(upload, 0, endless, DIGEST)

        assert uploads.arrived(upload) == []


def test_the_cache_keeps_what_was_used_last(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, limit_bytes=25)
    fetched: list[str] = []

    def use(key: str) -> None:
        def fetch(target: Path) -> None:
            fetched.append(key)
            target.write_bytes(bytes(10))

        with cache.held(key, fetch):
            pass

    for key in ("a", "b", "a", "c", "a", "b"):
        use(key)

    assert fetched == ["a", "b", "c", "b"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 25


def test_the_cache_drops_nothing_that_is_in_use(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, limit_bytes=10)

    def fetch(target: Path) -> None:
        target.write_bytes(bytes(10))

    with cache.held("a", fetch) as first, cache.held("b", fetch) as second:
        assert (first.exists(), second.exists()) == (True, True)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 10


def test_readers_at_once_fetch_once(tmp_path: Path) -> None:
    cache, fetched = FileCache(tmp_path, limit_bytes=100), []
    together = threading.Barrier(5)

    def fetch(target: Path) -> None:
        fetched.append(target)
        target.write_bytes(CONTENT)

    def read() -> None:
        together.wait()
        with cache.held("a", fetch) as path:
            assert path.read_bytes() == CONTENT

    threads = [threading.Thread(target=read) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(fetched) == 1


def test_a_restart_goes_on_with_the_cache_but_not_with_what_was_unfinished(tmp_path: Path) -> None:
    with FileCache(tmp_path, limit_bytes=100).held("a", lambda path: path.write_bytes(CONTENT)):
        (tmp_path / ".half.tmp").write_bytes(b"ha")
    again = FileCache(tmp_path, limit_bytes=100)

    def fetch(_target: Path) -> None:
        raise AssertionError("it is here")

    with again.held("a", fetch) as path:
        assert path.read_bytes() == CONTENT
    assert [each.name for each in tmp_path.glob(".*")] == []


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("ftp://bucket/prefix", "s3://BUCKET"),
        ("s3://", "s3://BUCKET"),
        ("s3://key:secret@bucket/prefix", "credentials"),
        ("s3://bucket?access_key_id=abc", "access_key_id"),
        ("s3://bucket?endpoint=bucket.example", "https://"),
        ("s3://bucket?addressing=both", "path, virtual"),
        ("s3://bucket/a/../b", "relative path"),
        ("gs://bucket?region=x", "no option"),
    ],
)
def test_a_url_that_names_no_store_is_refused(tmp_path: Path, url: str, wrong: str) -> None:
    with pytest.raises(InvalidError, match=wrong) as raised:
        opening.open_store(Settings(data=tmp_path, blobs_url=url))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "scheme", "name"),
    [
        ("s3://models/packhorse?region=eu-west-1", "s3", "models"),
        ("gs://models", "gs", "models"),
        ("azure://models/packhorse?account=someone", "azure", "models"),
    ],
)
def test_urls_of_each_cloud_are_understood(url: str, scheme: str, name: str) -> None:
    place = opening.place(url)

    assert (place.scheme, place.name) == (scheme, name)


def impatient(server: s3.Server, directory: Path, endpoint: str, bucket: str) -> Bucket:
    place = opening.place(server.url(endpoint, bucket))
    short = Patience(request_s=0.5, retry_s=1)
    return Bucket(place, directory, cache_bytes=1 << 20, quick=short, bulk=short)


def test_a_store_that_hangs_is_given_up_in_time(tmp_path: Path, s3_server: s3.Server) -> None:
    with s3_server.behind() as trouble:
        store = impatient(s3_server, tmp_path, trouble.endpoint, s3_server.make())
        trouble.plan = lambda _method, _path: s3.Fault(delay_s=20)
        began = time.monotonic()
        with pytest.raises(StoreError) as raised:
            store.size(key_of(DIGEST))

        assert time.monotonic() - began < 10
        assert raised.value.retryable


def test_a_bucket_that_does_not_exist_is_told(tmp_path: Path, s3_server: s3.Server) -> None:
    store = impatient(s3_server, tmp_path, s3_server.endpoint, "absent")
    path = store.scratch() / "file"
    path.write_bytes(CONTENT)

    with pytest.raises(StoreError, match="does not exist"):
        store.put_file(key_of(DIGEST), path)
    with pytest.raises(StoreError):
        store.check()


def test_bytes_that_are_not_the_blob_leave_nothing_in_the_bucket(
    tmp_path: Path, s3_server: s3.Server
) -> None:
    store = impatient(s3_server, tmp_path, s3_server.endpoint, s3_server.make())
    path = tmp_path / "file"
    path.write_bytes(b"other")

    with pytest.raises(IntegrityError):
        Blobs(store).put_file(DIGEST, path)
    assert list(store.list("blobs/")) == []
    assert not list(store.scratch().iterdir())
