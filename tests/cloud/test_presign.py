from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from cloud.errors import UrlExpiredError, UrlRefusedError
from cloud.storage.encodings import Recipe
from cloud.trust.presign import Presigner
from runtime import digests
from runtime.bundle import parts
from runtime.digests import Digest
from tests.support import registries
from tests.support.registries import Registry, SetClock

CONTENT = b"some weights " * 50_000


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.running(tmp_path) as running:
        yield running


def stored(registry: Registry) -> Digest:
    return registry.services.blobs.put_bytes(CONTENT)


def test_urls_survive_a_restart_and_expire(tmp_path: Path) -> None:
    clock = SetClock()
    url = urlsplit(Presigner.open(tmp_path, ttl_s=60, clock=clock).sign("/dl/zstd/x"))
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    again = Presigner.open(tmp_path, ttl_s=60, clock=clock)

    again.check(url.path, expiry=query["e"], signature=query["s"])
    clock.at += 61
    with pytest.raises(UrlExpiredError):
        again.check(url.path, expiry=query["e"], signature=query["s"])


@pytest.mark.parametrize(
    ("path", "expiry", "signature"),
    [
        ("/dl/zstd/y", None, None),
        ("/dl/zstd/x", "9999999999", None),
        ("/dl/zstd/x", "x", None),
        ("/dl/zstd/x", None, ""),
        ("/dl/zstd/x", None, "ü"),
    ],
)
def test_nothing_in_a_url_can_be_altered(
    tmp_path: Path, path: str, expiry: str | None, signature: str | None
) -> None:
    signer = Presigner.open(tmp_path, ttl_s=60, clock=SetClock())
    query = parse_qs(urlsplit(signer.sign("/dl/zstd/x")).query)

    with pytest.raises(UrlRefusedError):
        signer.check(
            path,
            expiry=query["e"][0] if expiry is None else expiry,
            signature=query["s"][0] if signature is None else signature,
        )


def test_the_secret_is_private(tmp_path: Path) -> None:
    Presigner.open(tmp_path, ttl_s=60, clock=SetClock())

    assert (tmp_path / "presign.key").stat().st_mode & 0o077 == 0


def test_a_device_fetches_a_table_and_its_parts_without_a_key(registry: Registry) -> None:
    blob = stored(registry)
    sign = registry.services.presigner
    table = parts.decode(registry.bare.get(sign.parts("zstd", blob)).content)
    url = sign.blob("zstd", blob)
    start, stop = table.span(0)
    answer = registry.bare.get(url, headers={"Range": f"bytes={start}-{stop - 1}"})

    assert answer.status_code == 206
    assert digests.of_bytes(answer.content) == table.parts[0]
    assert registry.bare.get(url).content == answer.content[: table.encoded_size]
    assert registry.bare.head(url).headers["content-length"] == str(table.encoded_size)
    assert registry.bare.get(url, headers={"Range": "bytes=99999999-"}).status_code == 416


def test_an_expired_url_is_refused_so_that_the_device_asks_anew(registry: Registry) -> None:
    url = registry.services.presigner.blob("zstd", stored(registry))
    registry.clock.at += registry.services.settings.presign_ttl_s + 1
    answer = registry.bare.get(url)

    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:packhorse:problem:url-expired"


def test_a_delta_is_served_as_long_as_it_is_kept_and_its_base_is_signed(
    registry: Registry,
) -> None:
    services, sign = registry.services, registry.services.presigner
    blob, base, other = (
        services.blobs.put_bytes(CONTENT + text) for text in (b"new", b"old", b"other")
    )
    recipe = Recipe(blob, "patch", base)
    made = services.encodings.get(recipe)
    url = sign.blob("patch", blob, base)

    assert parts.decode(registry.bare.get(sign.parts("patch", blob, base)).content) == made.table
    assert len(registry.bare.get(url).content) == made.table.encoded_size
    for altered in (other, ""):
        assert registry.bare.get(url.replace(base, altered)).status_code == 403
    assert registry.bare.get(url.replace(f"base={base}&", "")).status_code == 403

    services.encodings.delete(recipe)
    gone = registry.bare.get(url)
    assert (gone.status_code, gone.json()["type"]) == (403, "urn:packhorse:problem:url-expired")


def test_an_altered_url_is_refused(registry: Registry) -> None:
    blob = stored(registry)
    url = registry.services.presigner.blob("zstd", blob)

    assert registry.bare.get(url + "0").status_code == 403
    assert registry.bare.get(url.replace("zstd", "none")).status_code == 403
    assert registry.bare.get(url.replace(f"{blob}?", f"{blob}/parts?")).status_code == 403
    assert registry.bare.get(f"/dl/zstd/{blob}").status_code == 422
