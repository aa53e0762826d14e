import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud.registry import models
from runtime import digests
from runtime.bundle import index
from runtime.bundle.index import MAX_INDEX_BYTES
from runtime.digests import Digest
from tests.support import registries
from tests.support.registries import Registry, Stores, one_file_index

LIMIT = 5_000_000


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path, stores=stores, max_blob_bytes=LIMIT) as running:
        yield running


def put(registry: Registry, digest: str, content: Any, **headers: str) -> Any:
    return registry.http.put(f"/api/v1/blobs/{digest}", content=content, headers=headers)


def test_versions_count_up_and_the_same_content_stays_one(registry: Registry) -> None:
    first = registry.register("digits", b"one")
    again = registry.register("digits", b"one")
    second = registry.register("digits", b"two")
    back = registry.register("digits", b"one")

    assert (first["version"], first["created"]) == (1, True)
    assert (again["version"], again["created"]) == (1, False)
    assert (second["version"], second["created"]) == (2, True)
    assert (back["version"], back["bundle"]) == (3, first["bundle"])


def offer(registry: Registry, name: str, encoded: bytes) -> Any:
    """Upload what may be an index and ask for its registration; return the answer."""
    digest = digests.of_bytes(encoded)
    put(registry, digest, encoded)
    return registry.http.post(f"/api/v1/models/{name}/versions", json={"bundle": digest})


def test_a_registration_whose_blobs_are_missing_lists_them(registry: Registry) -> None:
    made, _content = one_file_index("digits", b"never sent")
    answer = offer(registry, "digits", index.encode(made))

    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:packhorse:problem:missing-blobs"
    assert answer.json()["missing"] == [made.files[0].sha256]
    assert registry.http.get("/api/v1/models/digits").status_code == 404


def test_an_index_that_was_not_uploaded_is_missing_itself(registry: Registry) -> None:
    digest = digests.of_bytes(b"never sent")
    answer = registry.http.post("/api/v1/models/digits/versions", json={"bundle": digest})

    assert answer.status_code == 422
    assert answer.json()["missing"] == [digest]


def test_an_index_that_lies_about_a_size_is_refused(registry: Registry) -> None:
    made, content = one_file_index("digits", b"content")
    put(registry, made.files[0].sha256, content)
    answer = offer(registry, "digits", index.encode(made).replace(b'"size":7', b'"size":8'))

    assert answer.json()["missing"] == [made.files[0].sha256]


@pytest.mark.parametrize("name", ["other", "Digits", "a b"])
def test_a_bundle_is_registered_under_its_own_name_only(registry: Registry, name: str) -> None:
    made, content = one_file_index("digits", b"content")
    put(registry, made.files[0].sha256, content)

    assert offer(registry, name, index.encode(made)).status_code == 422


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"format": 99}'])
def test_an_index_that_is_none_is_refused(registry: Registry, content: bytes) -> None:
    assert offer(registry, "x", content).status_code == 422


def test_an_index_beyond_the_limit_is_not_even_read(registry: Registry) -> None:
    content = b" " * (MAX_INDEX_BYTES + 1)
    answer = offer(registry, "x", content)

    assert answer.status_code == 422
    assert f"more than {MAX_INDEX_BYTES} bytes" in answer.json()["detail"]


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
    wrong = {"3": 404, "0": 422, "-1": 404, "x": 404, "X": 422, "a b": 422, "9" * 40: 404}
    for version, status in wrong.items():
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
    listed = [stored.key for stored in registry.services.store.list("encodings/")]
    ready = [key for key in listed if key.endswith(".data")]

    assert len(ready) == 2
    assert any(made["bundle"] in key for key in ready)


def test_the_bundle_knows_all_its_blobs(registry: Registry) -> None:
    made = registry.register("digits", b"content")
    with registry.services.reading() as session:
        found = models.blobs_of(session, [made["bundle"]])

    assert found[Digest(made["bundle"])] == registry.services.blobs.size(made["bundle"])
    assert found[digests.of_bytes(b"content")] == len(b"content")
