import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from cloud.trust.authority import Authority
from runtime import tls
from runtime.errors import IntegrityError, InvalidError, LinkError, PackhorseError
from tests.support.https import serving


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("authority"))


def test_the_fingerprint_is_the_digest_of_the_certificate_itself(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.ca_pem.encode())

    assert tls.fingerprint(authority.ca_pem) == certificate.fingerprint(hashes.SHA256()).hex()
    assert tls.fingerprint(f"\n{authority.ca_pem}\n\n") == authority.fingerprint


def test_a_registry_that_has_the_promised_ca_is_believed(authority: Authority) -> None:
    asked: list[str] = []

    def registry(method: str, path: str, _body: bytes) -> tuple[int, bytes]:
        asked.append(f"{method} {path}")
        return 200, authority.ca_pem.encode()

    with serving(registry, authority) as url:
        assert tls.fetch_ca(url + "/", authority.fingerprint, 5) == authority.ca_pem

    assert asked == ["GET /api/v1/ca"]


def test_a_registry_with_another_ca_is_an_impostor(authority: Authority, tmp_path: Path) -> None:
    impostor = Authority.open(tmp_path)

    with (
        serving(lambda *_: (200, impostor.ca_pem.encode()), impostor) as url,
        pytest.raises(IntegrityError, match="not the one in the token") as caught,
    ):
        tls.fetch_ca(url, authority.fingerprint, 5)

    assert (caught.value.wanted, caught.value.got) == (authority.fingerprint, impostor.fingerprint)


def test_a_second_certificate_cannot_ride_along_with_the_promised_one(
    authority: Authority, tmp_path: Path
) -> None:
    both = authority.ca_pem + Authority.open(tmp_path).ca_pem

    with (
        serving(lambda *_: (200, both.encode()), authority) as url,
        pytest.raises(InvalidError, match="give one certificate"),
    ):
        tls.fetch_ca(url, authority.fingerprint, 5)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, b"nothing here"), "answered 404"),
        ((200, b"x" * (tls.MAX_CA_BYTES + 1)), "more than 65536 bytes"),
        ((200, b"<html>"), "give one certificate"),
        ((200, b"\xff\xfe"), "give one certificate"),
    ],
)
def test_what_is_no_ca_is_refused(
    authority: Authority, answer: tuple[int, bytes], said: str
) -> None:
    with serving(lambda *_: answer, authority) as url, pytest.raises(PackhorseError, match=said):
        tls.fetch_ca(url, authority.fingerprint, 5)


def test_nobody_there_is_a_link_error() -> None:
    with pytest.raises(LinkError, match=r"127\.0\.0\.1:9 could not be reached"):
        tls.fetch_ca("https://127.0.0.1:9", "0" * 64, 1)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "registry.example",
        "ftp://registry.example",
        "http://registry.example:8443",
        "https://",
        "https://user:secret@registry.example",
        "https://registry.example:99999",
        "https://registry example",
        "https://registry.example\n",
        "https://[::1",
    ],
)
def test_an_address_that_is_none_or_not_safe_is_refused(url: str) -> None:
    with pytest.raises(InvalidError, match="url"):
        tls.parse_url(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost", "http://[::1]:80"])
def test_plain_http_is_for_this_machine(url: str) -> None:
    assert tls.parse_url(url).scheme == "http"


@given(st.text(max_size=60))
def test_any_text_as_a_certificate_is_a_clear_error_or_a_digest(text: str) -> None:
    try:
        assert len(tls.fingerprint(text)) == hashlib.sha256().digest_size * 2
    except InvalidError as error:
        assert error.field == "certificate"  # noqa: PT017 - either is right


def test_a_server_of_our_ca_is_trusted_and_no_other(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority.open(tmp_path)
    context = tls.client_context(ca_pem=authority.ca_pem)

    with serving(lambda *_: (200, b"yes"), authority) as url:
        assert tls.exchange(url, context=context, timeout_s=5, limit_bytes=10) == (200, b"yes")
    with (
        serving(lambda *_: (200, b"yes"), stranger) as url,
        pytest.raises(LinkError, match="not trusted"),
    ):
        tls.exchange(url, context=context, timeout_s=5, limit_bytes=10)


def test_old_versions_of_tls_are_not_spoken(authority: Authority) -> None:
    context = tls.client_context(ca_pem=authority.ca_pem)

    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname


def test_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="CA certificate cannot be read"):
        tls.client_context(ca_pem="nonsense")
    with pytest.raises(LinkError, match=r"missing\.pem"):
        tls.client_context(ca_pem=authority.ca_pem, cert_file=tmp_path / "missing.pem")
    with pytest.raises(LinkError, match=r"server\.pem"):
        tls.client_context(
            ca_pem=authority.ca_pem,
            cert_file=authority.server_cert_file,
            key_file=authority.registry_key_file,
        )
