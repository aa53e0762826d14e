import ssl
from pathlib import Path

import pytest

from cloud.trust.authority import Authority
from edge_agent.bundles.fetch import Fetcher
from runtime.bundle.blobs import BlobStore
from runtime.errors import InvalidError, LinkError
from runtime.retry import Backoff
from tests.support.bundle_sources import write_bundle
from tests.support.httpfiles import FileServer


def server_of(authority: Authority, place: Path) -> FileServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.server_cert_file, authority.server_key_file)
    return FileServer(place, context=context)


def fetcher_for(server: FileServer, place: Path, ca_file: Path | None) -> Fetcher:
    return Fetcher(
        BlobStore(place / "blobs"),
        place / "work",
        server.answer,
        ca_file,
        reserve_bytes=0,
        backoff=Backoff(first_s=0.001, most_s=0.01),
    )


def test_the_registrys_own_ca_is_trusted_and_no_other(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "authority")
    other = Authority.open(tmp_path / "other")
    with server_of(authority, tmp_path / "registry").running() as server:
        built = server.add(write_bundle(tmp_path / "source"))

        with pytest.raises(LinkError, match="certificate not trusted"):
            fetcher_for(server, tmp_path / "device", other.ca_file).fetch(built.digest)
        with pytest.raises(InvalidError, match="needs the registry's CA"):
            fetcher_for(server, tmp_path / "device", None).fetch(built.digest)
        assert server.requests == []

        fetcher = fetcher_for(server, tmp_path / "device", authority.ca_file)
        fetcher.fetch(built.digest)
        assert set(fetcher.blobs.digests()) == {built.digest, *built.files}


def test_another_host_is_trusted_by_the_systems_cas_too_but_never_the_registrys_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offer may name an object store, whose certificate some public CA has signed."""
    registry = Authority.open(tmp_path / "authority")
    public = Authority.open(tmp_path / "public")
    monkeypatch.setenv("SSL_CERT_FILE", str(public.ca_file))
    with server_of(public, tmp_path / "store").running() as server:
        built = server.add(write_bundle(tmp_path / "source"))

        fetcher = fetcher_for(server, tmp_path / "device", registry.ca_file)
        fetcher.base_url = f"https://127.0.0.1:{server.url.rpartition(':')[2]}"
        with pytest.raises(LinkError, match="certificate not trusted"):
            fetcher.fetch(built.digest)

        fetcher.base_url = "https://registry.example:8443"
        fetcher.fetch(built.digest)
        assert set(fetcher.blobs.digests()) == {built.digest, *built.files}

        monkeypatch.delenv("SSL_CERT_FILE")
        stranger = fetcher_for(server, tmp_path / "stranger", registry.ca_file)
        stranger.base_url = "https://registry.example:8443"
        with pytest.raises(LinkError, match="certificate not trusted"):
            stranger.fetch(built.digest)


def test_another_host_may_also_be_the_registrys_own_under_a_second_name(tmp_path: Path) -> None:
    registry = Authority.open(tmp_path / "authority")
    with server_of(registry, tmp_path / "registry").running() as server:
        built = server.add(write_bundle(tmp_path / "source"))
        fetcher = fetcher_for(server, tmp_path / "device", registry.ca_file)
        fetcher.base_url = "https://registry.example:8443"

        fetcher.fetch(built.digest)

        assert set(fetcher.blobs.digests()) == {built.digest, *built.files}
