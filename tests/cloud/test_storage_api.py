"""Blobs over HTTP, on every kind of store: in one request, in parts, and out again."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import zstandard

from cloud.storage.uploads import MIB, PART_BYTES
from runtime import digests, tls
from tests.support import registries
from tests.support.brokers import eventually
from tests.support.registries import Registry, Stores

LIMIT = 20_000_000
DAY_S = 86400.0
LARGE = bytes(range(251)) * (18 * MIB // 251)
"""Two parts and a piece."""
ALL_PARTS = [0, 1, 2]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.running(tmp_path, max_blob_bytes=LIMIT) as running:
        yield running


@pytest.fixture
def anywhere(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    """A registry on each kind of store."""
    with registries.running(tmp_path, stores=stores, max_blob_bytes=LIMIT) as running:
        yield running


def put(registry: Registry, digest: str, content: Any, **headers: str) -> Any:
    return registry.http.put(f"/api/v1/blobs/{digest}", content=content, headers=headers)


def fetched(registry: Registry, digest: str, **headers: str) -> Any:
    """Return a blob's answer from the registry itself, not from the store."""
    path = f"/api/v1/blobs/{digest}?direct=false"
    return registry.http.get(path, headers=headers, follow_redirects=False)


def leftovers(registry: Registry) -> list[str]:
    """What is in the store, and on its way there."""
    store = registry.services.store
    unfinished = [path.name for path in store.scratch().iterdir()]
    return [*(stored.key for stored in store.list("blobs/")), *unfinished]


@pytest.mark.parametrize("size", [0, 1, 100_000, LIMIT])
def test_a_blob_comes_back_as_it_was_sent(anywhere: Registry, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    digest = digests.of_bytes(content)

    assert anywhere.http.head(f"/api/v1/blobs/{digest}").status_code == 404
    assert put(anywhere, digest, content).json() == {"sha256": digest, "size_bytes": size}
    assert put(anywhere, digest, content).status_code == 200
    assert anywhere.http.head(f"/api/v1/blobs/{digest}").headers["content-length"] == str(size)
    assert fetched(anywhere, digest).content == content


def test_a_blob_may_travel_compressed_and_in_pieces(registry: Registry) -> None:
    content = b"weights" * 300_000
    packed = zstandard.compress(content)
    pieces = (packed[start : start + 7] for start in range(0, len(packed), 7))
    answer = registry.http.put(
        f"/api/v1/blobs/{digests.of_bytes(content)}",
        content=pieces,
        headers={"Content-Encoding": "zstd"},
    )

    assert answer.json()["size_bytes"] == len(content)


RANGES = {
    "bytes=3-5": (206, b"345", "bytes 3-5/10"),
    "bytes=7-": (206, b"789", "bytes 7-9/10"),
    "bytes=-2": (206, b"89", "bytes 8-9/10"),
    "bytes=-99": (206, b"0123456789", "bytes 0-9/10"),
    "bytes=9-1000000000000": (206, b"9", "bytes 9-9/10"),
    "bytes=5-3": (200, b"0123456789", None),
    "bytes=0-1,4-5": (200, b"0123456789", None),
    "bytes=-": (200, b"0123456789", None),
    "bytes=99999999999999999999-": (200, b"0123456789", None),
    "lines=1-2": (200, b"0123456789", None),
}
"""What is asked for, and what comes of ten bytes."""


def test_a_part_of_a_blob_can_be_asked_for(anywhere: Registry) -> None:
    digest = digests.of_bytes(b"0123456789")
    put(anywhere, digest, b"0123456789")
    answers = {asked: fetched(anywhere, digest, range=asked) for asked in RANGES}

    assert {
        asked: (answer.status_code, answer.content, answer.headers.get("content-range"))
        for asked, answer in answers.items()
    } == RANGES


@pytest.mark.parametrize(
    ("content", "headers", "kind"),
    [
        (b"other bytes", {}, "integrity"),
        (b"", {}, "integrity"),
        (b"not zstd at all", {"Content-Encoding": "zstd"}, "invalid"),
        (zstandard.compress(b"x" * 1000)[:-3], {"Content-Encoding": "zstd"}, "integrity"),
        (b"x", {"Content-Encoding": "br"}, "invalid"),
    ],
)
def test_bytes_that_are_not_those_named_leave_nothing(
    anywhere: Registry, content: bytes, headers: dict[str, str], kind: str
) -> None:
    answer = put(anywhere, digests.of_bytes(b"x" * 1000), content, **headers)

    assert answer.status_code == 422
    assert answer.json()["type"] == f"urn:packhorse:problem:{kind}"
    assert leftovers(anywhere) == []


def test_a_small_body_that_unfolds_beyond_the_limit_is_refused(registry: Registry) -> None:
    content = b"\0" * (LIMIT + 1)
    answer = put(
        registry,
        digests.of_bytes(content),
        zstandard.compress(content),
        **{"Content-Encoding": "zstd"},
    )

    assert answer.status_code == 413
    assert leftovers(registry) == []


def test_a_blob_above_the_limit_is_refused(registry: Registry) -> None:
    content = b"\0" * (LIMIT + 1)

    assert put(registry, digests.of_bytes(content), content).status_code == 413
    assert put(registry, digests.of_bytes(content), iter([content])).status_code == 413
    assert leftovers(registry) == []


def test_an_upload_that_breaks_off_leaves_nothing_and_can_be_repeated(registry: Registry) -> None:
    content = b"weights" * 100_000
    digest = digests.of_bytes(content)
    head = (
        f"PUT /api/v1/blobs/{digest} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {registry.key}\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode()

    def temporaries() -> list[str]:
        return [path for path in leftovers(registry) if path.startswith(digest)]

    with registries.listening(registry) as url:
        context = tls.client_context(ca_pem=registry.services.authority.ca_pem)
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with (
            socket.create_connection(address) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(head + content[: len(content) // 2])
            eventually(lambda: bool(temporaries()), "the upload has begun")
        eventually(lambda: not leftovers(registry), "what had arrived is gone")

    assert put(registry, digest, content).status_code == 200


def test_a_range_beyond_the_end_is_told_the_size(registry: Registry) -> None:
    digest = digests.of_bytes(b"0123456789")
    put(registry, digest, b"0123456789")
    answer = fetched(registry, digest, range="bytes=10-")

    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */10")


def test_a_range_of_something_else_is_answered_with_the_whole(registry: Registry) -> None:
    digest = digests.of_bytes(b"0123456789")
    put(registry, digest, b"0123456789")
    tag = fetched(registry, digest).headers["etag"]

    same = fetched(registry, digest, **{"range": "bytes=3-5", "if-range": tag})
    other = fetched(registry, digest, **{"range": "bytes=3-5", "if-range": '"other"'})

    assert (same.content, other.content) == (b"345", b"0123456789")


def begin(registry: Registry, content: bytes, **changes: Any) -> Any:
    wish = {"sha256": digests.of_bytes(content), "size_bytes": len(content), **changes}
    return registry.http.post("/api/v1/uploads", json=wish)


def put_part(registry: Registry, upload: Any, number: int, content: bytes, **changes: Any) -> Any:
    """Send a part of `content`, or what stands for it."""
    part = content[number * upload["part_bytes"] :][: upload["part_bytes"]]
    sent = changes.pop("sent", part)
    return registry.http.put(
        f"/api/v1/uploads/{upload['id']}/parts/{number}",
        params={"sha256": digests.of_bytes(part)},
        content=sent,
        **changes,
    )


def complete(registry: Registry, upload: Any) -> Any:
    return registry.http.post(f"/api/v1/uploads/{upload['id']}/complete")


def test_a_blob_may_come_in_parts_in_any_order(anywhere: Registry) -> None:
    upload = begin(anywhere, LARGE).json()
    for number in (2, 0, 1):
        assert put_part(anywhere, upload, number, LARGE).status_code == 204

    assert complete(anywhere, upload).json() == {
        "sha256": digests.of_bytes(LARGE),
        "size_bytes": len(LARGE),
    }
    assert fetched(anywhere, digests.of_bytes(LARGE)).content == LARGE
    assert complete(anywhere, upload).status_code == 404


def test_an_upload_goes_on_with_what_has_arrived(registry: Registry) -> None:
    first = begin(registry, LARGE).json()
    put_part(registry, first, 1, LARGE)

    again = begin(registry, LARGE).json()

    assert (first["arrived"], again["arrived"], again["id"]) == ([], [1], first["id"])
    assert registry.get(f"/api/v1/uploads/{first['id']}") == again


def test_a_part_may_travel_compressed(registry: Registry) -> None:
    upload = begin(registry, LARGE).json()
    packed = zstandard.compress(LARGE[:PART_BYTES])
    headers = {"Content-Encoding": "zstd"}

    assert len(packed) < PART_BYTES // 10
    assert put_part(registry, upload, 0, LARGE, sent=packed, headers=headers).status_code == 204
    assert begin(registry, LARGE).json()["arrived"] == [0]


@pytest.mark.parametrize(
    "sent",
    [b"", LARGE[: PART_BYTES - 1], LARGE[: PART_BYTES + 1], b"x" * PART_BYTES],
    ids=["nothing", "too short", "too long", "other bytes"],
)
def test_a_part_that_lies_is_not_kept(registry: Registry, sent: bytes) -> None:
    upload = begin(registry, LARGE).json()

    assert put_part(registry, upload, 0, LARGE, sent=sent).status_code in {413, 422}
    assert begin(registry, LARGE).json()["arrived"] == []
    assert put_part(registry, upload, 0, LARGE).status_code == 204


def test_a_part_that_unfolds_beyond_its_size_is_refused(registry: Registry) -> None:
    upload = begin(registry, LARGE).json()
    bomb = zstandard.compress(bytes(100 * MIB))
    headers = {"Content-Encoding": "zstd"}

    assert put_part(registry, upload, 0, LARGE, sent=bomb, headers=headers).status_code == 413
    assert begin(registry, LARGE).json()["arrived"] == []


def test_parts_that_are_not_the_blob_together_leave_nothing(anywhere: Registry) -> None:
    """Each part is as it was announced, but the whole is not what was named."""
    promised = digests.of_bytes(b"something else")
    upload = begin(anywhere, LARGE, sha256=promised).json()
    for number in ALL_PARTS:
        put_part(anywhere, upload, number, LARGE)

    answer = complete(anywhere, upload)

    assert (answer.status_code, answer.json()["type"]) == (422, "urn:packhorse:problem:integrity")
    assert anywhere.http.head(f"/api/v1/blobs/{promised}").status_code == 404
    assert begin(anywhere, LARGE, sha256=promised).json()["arrived"] == []


def test_what_lacks_parts_is_not_complete(registry: Registry) -> None:
    upload = begin(registry, LARGE).json()
    put_part(registry, upload, 0, LARGE)

    assert complete(registry, upload).status_code == 422
    assert begin(registry, LARGE).json()["arrived"] == [0]


@pytest.mark.parametrize("number", [-1, 3, 10**12])
def test_there_are_no_other_parts(registry: Registry, number: int) -> None:
    upload = begin(registry, LARGE).json()

    assert put_part(registry, upload, number, LARGE, sent=b"x").status_code == 422


@pytest.mark.parametrize("size", [0, -1, LIMIT + 1])
def test_a_size_that_no_blob_has_is_refused(registry: Registry, size: int) -> None:
    assert begin(registry, LARGE, size_bytes=size).status_code == 422


def test_an_aborted_upload_is_forgotten(registry: Registry) -> None:
    upload = begin(registry, LARGE).json()
    put_part(registry, upload, 0, LARGE)

    assert registry.http.delete(f"/api/v1/uploads/{upload['id']}").status_code == 204
    assert registry.http.get(f"/api/v1/uploads/{upload['id']}").status_code == 404
    assert begin(registry, LARGE).json()["arrived"] == []


def test_an_upload_with_which_nobody_goes_on_is_forgotten(registry: Registry) -> None:
    idle, busy = begin(registry, LARGE).json(), begin(registry, LARGE[:-1]).json()
    registry.clock.at += DAY_S - 1
    put_part(registry, busy, 0, LARGE[:-1])
    registry.clock.at += 2

    assert registry.services.uploads.sweep() == 1
    assert registry.http.get(f"/api/v1/uploads/{idle['id']}").status_code == 404
    assert registry.get(f"/api/v1/uploads/{busy['id']}")["arrived"] == [0]


def test_only_so_many_uploads_are_under_way(tmp_path: Path) -> None:
    with registries.running(tmp_path, max_uploads=2) as registry:
        answers = [begin(registry, LARGE[number:]) for number in range(3)]

        assert [answer.status_code for answer in answers] == [200, 200, 503]
        assert answers[2].json()["retryable"] is True

        registry.clock.at += DAY_S + 1
        assert begin(registry, LARGE[2:]).status_code == 200


def test_uploads_bring_only_so_much_together(tmp_path: Path) -> None:
    with registries.running(tmp_path, max_uploads_bytes=len(LARGE)) as registry:
        assert begin(registry, LARGE).status_code == 200
        assert begin(registry, b"another one").status_code == 503


def test_an_upload_survives_a_restart(tmp_path: Path, stores: Stores) -> None:
    with registries.running(tmp_path, stores=stores) as before:
        upload = begin(before, LARGE).json()
        put_part(before, upload, 0, LARGE)
    with registries.running(tmp_path, stores=stores) as after:
        again = begin(after, LARGE).json()
        assert again["arrived"] == [0]
        for number in (1, 2):
            put_part(after, again, number, LARGE)

        assert complete(after, again).status_code == 200


def test_nobody_sees_the_uploads_of_others(registry: Registry) -> None:
    upload = begin(registry, LARGE).json()

    assert registry.bare.get(f"/api/v1/uploads/{upload['id']}").status_code == 401
    for wrong in ("0" * 32, "..%2F..", "x" * 500, upload["id"].upper() + "0"):
        assert registry.http.get(f"/api/v1/uploads/{wrong}").status_code in {404, 422}


def test_clients_are_sent_to_the_store_itself(tmp_path: Path, s3_server: Any) -> None:
    """The URL needs no key, honours Range, and says when it stops working."""
    with registries.running(tmp_path, blobs_url=s3_server.url(), presign_ttl_s=90) as registry:
        digest = digests.of_bytes(b"0123456789")
        put(registry, digest, b"0123456789")
        answer = registry.http.get(f"/api/v1/blobs/{digest}", follow_redirects=False)

    assert answer.status_code == 307
    url = answer.headers["location"]
    assert url.startswith(s3_server.endpoint)
    assert "&X-Amz-Expires=90&" in url
    part = checked_content(httpx2.get(url, headers={"Range": "bytes=3-5"}), 206)
    assert part == b"345"
    assert checked_content(httpx2.get(url), 200) == b"0123456789"


def checked_content(answer: httpx2.Response, status: int) -> bytes:
    assert answer.status_code == status, answer.text
    return answer.content


def test_a_store_that_clients_cannot_reach_is_read_by_the_registry(
    tmp_path: Path, s3_server: Any
) -> None:
    url = s3_server.url()
    with registries.running(tmp_path, blobs_url=url, blobs_direct=False) as registry:
        put(registry, digests.of_bytes(b"content"), b"content")
        answer = registry.http.get(f"/api/v1/blobs/{digests.of_bytes(b'content')}")

        assert (answer.status_code, answer.content) == (200, b"content")
