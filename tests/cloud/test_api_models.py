import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from cloud.registry import models
from runtime import digests, tls
from runtime.bundle import index
from runtime.digests import Digest
from tests.support import registries
from tests.support.brokers import eventually
from tests.support.registries import Registry, one_file_index

LIMIT = 3_000_000


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.running(tmp_path, max_blob_bytes=LIMIT) as running:
        yield running


def put(registry: Registry, digest: str, content: Any, **headers: str) -> Any:
    return registry.http.put(f"/api/v1/blobs/{digest}", content=content, headers=headers)


def leftovers(registry: Registry) -> list[Path]:
    root = registry.services.settings.blobs_directory
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, 100_000, LIMIT])
def test_a_blob_comes_back_as_it_was_sent(registry: Registry, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    digest = digests.of_bytes(content)

    assert registry.http.head(f"/api/v1/blobs/{digest}").status_code == 404
    assert put(registry, digest, content).json() == {"sha256": digest, "size_bytes": size}
    assert put(registry, digest, content).status_code == 200
    assert registry.http.head(f"/api/v1/blobs/{digest}").headers["content-length"] == str(size)
    assert registry.http.get(f"/api/v1/blobs/{digest}").content == content


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


def test_a_part_of_a_blob_can_be_asked_for(registry: Registry) -> None:
    digest = digests.of_bytes(b"0123456789")
    put(registry, digest, b"0123456789")
    answer = registry.http.get(f"/api/v1/blobs/{digest}", headers={"Range": "bytes=3-5"})

    assert (answer.status_code, answer.content) == (206, b"345")


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
    registry: Registry, content: bytes, headers: dict[str, str], kind: str
) -> None:
    answer = put(registry, digests.of_bytes(b"x" * 1000), content, **headers)

    assert answer.status_code == 422
    assert answer.json()["type"] == f"urn:packhorse:problem:{kind}"
    assert leftovers(registry) == []


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


def test_versions_count_up_and_the_same_content_stays_one(registry: Registry) -> None:
    first = registry.register("digits", b"one")
    again = registry.register("digits", b"one")
    second = registry.register("digits", b"two")
    back = registry.register("digits", b"one")

    assert (first["version"], first["created"]) == (1, True)
    assert (again["version"], again["created"]) == (1, False)
    assert (second["version"], second["created"]) == (2, True)
    assert (back["version"], back["bundle"]) == (3, first["bundle"])


def test_a_registration_whose_blobs_are_missing_lists_them(registry: Registry) -> None:
    made, _content = one_file_index("digits", b"never sent")
    answer = registry.http.post("/api/v1/models/digits/versions", content=index.encode(made))

    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:packhorse:problem:missing-blobs"
    assert answer.json()["missing"] == [made.files[0].sha256]
    assert registry.http.get("/api/v1/models/digits").status_code == 404


def test_an_index_that_lies_about_a_size_is_refused(registry: Registry) -> None:
    made, content = one_file_index("digits", b"content")
    put(registry, made.files[0].sha256, content)
    lying = index.encode(made).replace(b'"size":7', b'"size":8')
    answer = registry.http.post("/api/v1/models/digits/versions", content=lying)

    assert answer.json()["missing"] == [made.files[0].sha256]


@pytest.mark.parametrize("name", ["other", "Digits", "a b"])
def test_a_bundle_is_registered_under_its_own_name_only(registry: Registry, name: str) -> None:
    made, content = one_file_index("digits", b"content")
    put(registry, made.files[0].sha256, content)
    answer = registry.http.post(f"/api/v1/models/{name}/versions", content=index.encode(made))

    assert answer.status_code == 422


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"format": 99}'])
def test_an_index_that_is_none_is_refused(registry: Registry, content: bytes) -> None:
    assert registry.http.post("/api/v1/models/x/versions", content=content).status_code == 422


def test_the_index_comes_back_byte_for_byte(registry: Registry) -> None:
    made = registry.register("digits", b"one")
    answer = registry.http.get("/api/v1/models/digits/versions/latest/index")

    assert digests.of_bytes(answer.content) == made["bundle"]


def test_versions_are_found_by_number_and_as_latest(registry: Registry) -> None:
    registry.register("digits", b"one")
    registry.register("digits", b"two")

    assert registry.get("/api/v1/models/digits/versions/1")["version"] == 1
    assert registry.get("/api/v1/models/digits/versions/latest")["version"] == 2
    assert registry.get("/api/v1/models/digits")["versions"] == 2
    assert "newest is digits:2" in registry.http.get("/api/v1/models/digits/versions/3").text
    for version, status in {"3": 404, "0": 422, "-1": 422, "x": 422, "9" * 40: 404}.items():
        answer = registry.http.get(f"/api/v1/models/digits/versions/{version}")
        assert answer.status_code == status


def test_lists_come_in_pages(registry: Registry) -> None:
    for name in ("a", "b", "c"):
        registry.register(name, name.encode())
    for content in (b"2", b"3"):
        registry.register("a", content)
    first = registry.get("/api/v1/models?limit=2")
    rest = registry.get(f"/api/v1/models?limit=2&cursor={first['next']}")
    versions = registry.get("/api/v1/models/a/versions?limit=2&cursor=1")

    assert [each["name"] for each in first["items"] + rest["items"]] == ["a", "b", "c"]
    assert rest["next"] is None
    assert [each["version"] for each in versions["items"]] == [2, 3]


def test_registering_at_once_gives_each_content_a_number_of_its_own(registry: Registry) -> None:
    count = 6
    made: list[Any] = []
    threads = [
        threading.Thread(target=lambda n=n: made.append(registry.register("m", b"%d" % n)))
        for n in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(each["version"] for each in made) == list(range(1, count + 1))
    assert len({each["bundle"] for each in made}) == count


def test_encodings_are_made_before_a_device_asks(registry: Registry) -> None:
    made = registry.register("digits", b"content" * 100)
    ready = list(registry.services.settings.encodings_directory.rglob("*.data"))

    assert len(ready) == 2
    assert any(path.stem == made["bundle"] for path in ready)


def test_the_bundle_knows_all_its_blobs(registry: Registry) -> None:
    made = registry.register("digits", b"content")
    with registry.services.reading() as session:
        found = models.blobs_of(session, [made["bundle"]])

    assert found[Digest(made["bundle"])] == registry.services.blobs.size(made["bundle"])
    assert found[digests.of_bytes(b"content")] == len(b"content")


def test_an_upload_that_breaks_off_leaves_nothing_and_can_be_repeated(registry: Registry) -> None:
    content = b"weights" * 100_000
    digest = digests.of_bytes(content)
    head = (
        f"PUT /api/v1/blobs/{digest} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {registry.key}\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode()

    def temporaries() -> list[Path]:
        return [path for path in leftovers(registry) if path.suffix == ".tmp"]

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
