"""What every ObjectStore promises: a directory, and a bucket of a real S3 server."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud.errors import NotFoundError
from cloud.settings import Settings
from cloud.storage import bucket
from cloud.storage.objects import ObjectStore
from cloud.storage.opening import open_store
from runtime.errors import InvalidError
from tests.support import s3

Opener = Callable[[], ObjectStore]
KEY = "blobs/ab/abcdef"
LARGE = 2 * bucket.PIECE_BYTES + 12345


@pytest.fixture(params=["directory", "s3"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """What opens the same store, once more each time, as a restarted registry does."""
    url = None
    if request.param == "s3":
        server: s3.Server = request.getfixturevalue("s3_server")
        url = server.url()
    settings = Settings(data=tmp_path / "data", blobs_url=url)
    return lambda: open_store(settings)


@pytest.fixture
def store(opener: Opener) -> ObjectStore:
    return opener()


def put(store: ObjectStore, key: str, content: bytes) -> None:
    path = store.scratch() / f"new-{threading.get_ident()}"
    path.write_bytes(content)
    store.put_file(key, path)


def read(store: ObjectStore, key: str, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join(store.read(key, start, stop))


@pytest.mark.parametrize("size", [0, 1, 300_000, LARGE])
def test_what_is_stored_comes_back_and_survives_a_restart(opener: Opener, size: int) -> None:
    content = os.urandom(size)
    put(opener(), KEY, content)

    store = opener()

    assert store.size(KEY) == size
    assert read(store, KEY) == content
    with store.local(KEY) as path:
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, 1),
        (5, 5),
        (7, None),
        (bucket.PIECE_BYTES - 1, bucket.PIECE_BYTES + 1),
        (LARGE - 3, LARGE),
        (LARGE - 3, LARGE + 100),
        (LARGE, None),
        (LARGE + 1, LARGE + 2),
    ],
)
def test_a_part_can_be_read(store: ObjectStore, start: int, stop: int | None) -> None:
    content = os.urandom(LARGE)
    put(store, KEY, content)

    assert read(store, KEY, start, stop) == content[start:stop]


def test_what_is_not_there_is_said_to_be_absent(store: ObjectStore) -> None:
    assert store.size(KEY) is None
    assert list(store.list("blobs/")) == []
    store.delete(KEY)
    with pytest.raises(NotFoundError):
        read(store, KEY)
    with pytest.raises(NotFoundError), store.local(KEY):
        pass


def test_what_is_deleted_is_gone_everywhere(opener: Opener) -> None:
    store = opener()
    put(store, KEY, b"content")
    with store.local(KEY):
        pass

    store.delete(KEY)

    assert (store.size(KEY), opener().size(KEY)) == (None, None)
    with pytest.raises(NotFoundError), store.local(KEY):
        pass


def test_what_is_being_read_may_be_deleted(store: ObjectStore) -> None:
    put(store, KEY, b"content")
    with store.local(KEY) as path, path.open("rb") as file:
        store.delete(KEY)
        assert file.read() == b"content"


def test_lists_go_by_the_beginning_of_keys(store: ObjectStore) -> None:
    keys = ["blobs/ab/one", "blobs/ab/only", "blobs/cd/two", "encodings/zstd/ab/one.data"]
    for key in keys:
        put(store, key, key.encode())

    def listed(prefix: str) -> set[tuple[str, int]]:
        return {(found.key, found.size) for found in store.list(prefix)}

    assert listed("blobs/") == {(key, len(key)) for key in keys[:3]}
    assert listed("blobs/ab/on") == {(key, len(key)) for key in keys[:2]}
    assert listed("encodings/zstd/") == {(keys[3], len(keys[3]))}
    assert listed("nothing/") == set()


def test_storing_the_same_again_changes_nothing(store: ObjectStore) -> None:
    put(store, KEY, b"content")
    put(store, KEY, b"content")

    assert read(store, KEY) == b"content"


def test_writers_at_once_leave_one_whole_object(store: ObjectStore) -> None:
    content = os.urandom(1_000_000)
    threads = [threading.Thread(target=put, args=(store, KEY, content)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert read(store, KEY) == content


@pytest.mark.parametrize("key", ["../outside", "/etc/passwd", "a/../../b", ""])
def test_keys_stay_below_the_store(store: ObjectStore, key: str) -> None:
    with pytest.raises(InvalidError, match="relative path"):
        put(store, key, b"content")
