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
