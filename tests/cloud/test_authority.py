import datetime as dt
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from cloud.trust import authority as module
from cloud.trust import certificates
from cloud.trust.authority import Authority
from runtime import files
from runtime.errors import InvalidError
from runtime.topics import DeviceId

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
A = DeviceId("dev-a")
NUMBERED = {NameOID.SERIAL_NUMBER: "SERIALNUMBER"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("authority"))


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _request(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
    name: str = "whoever",
) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()


def _usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_an_authority_is_made_once_and_then_found_again(tmp_path: Path) -> None:
    first = Authority.open(tmp_path)
    made = _contents(tmp_path)
    second = Authority.open(tmp_path)

    assert second.fingerprint == first.fingerprint
    assert _contents(tmp_path) == made
    assert set(made) == {
        "ca.key", "ca.pem", "server.key", "server.pem", "registry.key", "registry.pem", "crl.pem",
    }  # fmt: skip


def test_nobody_else_may_read_a_key(authority: Authority) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in authority.directory.iterdir()}

    assert {name for name, mode in modes.items() if mode == 0o600} == {
        "ca.key", "server.key", "registry.key",
    }  # fmt: skip


def test_a_server_is_no_client_and_the_registry_is_no_server(authority: Authority) -> None:
    server = _certificate(authority.server_cert_file)
    registry = _certificate(authority.registry_cert_file)

    assert _usages(server) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert _usages(registry) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert registry.subject.rfc4514_string() == "CN=_registry"


def test_all_are_valid_on_the_first_of_january_1970(authority: Authority) -> None:
    device, _ = authority.sign_device_csr(_request(ec.generate_private_key(ec.SECP256R1())), A)
    all_of_them = [
        _certificate(authority.ca_file),
        _certificate(authority.server_cert_file),
        _certificate(authority.registry_cert_file),
        x509.load_pem_x509_certificate(device.encode()),
    ]

    assert {certificate.not_valid_before_utc for certificate in all_of_them} == {EPOCH}


def test_the_server_answers_to_this_host_loopback_and_names_given(tmp_path: Path) -> None:
    opened = Authority.open(tmp_path, names=["registry.example", "10.1.2.3"])

    names = certificates.names_of(_certificate(opened.server_cert_file))

    wanted = ["registry.example", "10.1.2.3"]
    assert names == set(certificates.subject_names(wanted))
    assert x509.DNSName("localhost") in names
    assert x509.DNSName("registry.example") in names


def test_the_server_certificate_follows_the_names_and_the_ca_stays(tmp_path: Path) -> None:
    before = Authority.open(tmp_path)
    old = before.server_cert_file.read_bytes()

    after = Authority.open(tmp_path, names=["registry.example"])

    assert after.server_cert_file.read_bytes() != old
    assert after.fingerprint == before.fingerprint


def test_certificates_near_their_end_are_renewed_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SERVER_DAYS", module.RENEW_DAYS - 1)
    old = Authority.open(tmp_path)
    ends = [_certificate(file) for file in (old.server_cert_file, old.registry_cert_file)]
    monkeypatch.undo()

    new = Authority.open(tmp_path)

    renewed = [_certificate(file) for file in (new.server_cert_file, new.registry_cert_file)]
    for before, after in zip(ends, renewed, strict=True):
        assert after.not_valid_after_utc > before.not_valid_after_utc + dt.timedelta(days=700)


def test_what_is_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="server name"):
        Authority.open(tmp_path, names=["a" * 300])


def test_a_device_gets_the_name_that_the_registry_gives_it(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())

    pem, serial = authority.sign_device_csr(_request(key, "_registry"), A)

    signed = x509.load_pem_x509_certificate(pem.encode())
    signed.verify_directly_issued_by(_certificate(authority.ca_file))
    assert signed.subject.rfc4514_string(NUMBERED) == f"CN=dev-a,SERIALNUMBER={serial}"
    assert signed.serial_number == int(serial, 16)
    assert _usages(signed) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert signed.public_key() == key.public_key()


def test_names_wanted_in_a_request_are_not_given(authority: Authority) -> None:
    """NATS would take a name in an extension for the user's."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(
            x509.SubjectAlternativeName([x509.RFC822Name("_registry@example.com")]), critical=False
        )
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )

    pem, _ = authority.sign_device_csr(request.decode(), A)

    signed = x509.load_pem_x509_certificate(pem.encode())
    assert certificates.names_of(signed) == set()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate,
        lambda: rsa.generate_private_key(65537, 2048),
    ],
)
def test_good_keys_are_signed(
    authority: Authority, make: Callable[[], ec.EllipticCurvePrivateKey]
) -> None:
    assert authority.sign_device_csr(_request(make()), A, days=1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 - must be refused
    ],
)
def test_weak_and_odd_keys_are_not(
    authority: Authority, make: Callable[[], ec.EllipticCurvePrivateKey]
) -> None:
    with pytest.raises(InvalidError, match="use a key of EC P-256"):
        authority.sign_device_csr(_request(make()), A)


def test_a_request_of_another_key_than_it_is_signed_by_is_refused(authority: Authority) -> None:
    pem = _request(ec.generate_private_key(ec.SECP256R1()))
    der = bytearray(x509.load_pem_x509_csr(pem.encode()).public_bytes(serialization.Encoding.DER))
    at = der.find(b"whoever")
    der[at : at + 7] = b"someone"
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)

    with pytest.raises(InvalidError, match="a wrong signature"):
        authority.sign_device_csr(forged.decode(), A)


def test_a_request_is_bounded_before_it_is_read(authority: Authority) -> None:
    with pytest.raises(InvalidError, match="send at most 16384"):
        authority.sign_device_csr("x" * 16_385, A)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_any_other_text_as_a_request_is_a_clear_error(authority: Authority, text: str) -> None:
    with pytest.raises(InvalidError, match="csr"):
        authority.sign_device_csr(text, A)


def test_no_certificate_for_what_is_no_device_id(authority: Authority) -> None:
    request = _request(ec.generate_private_key(ec.SECP256R1()))

    for name in ("_registry", "", "Dev", "a/b", "+", "#", "a" * 64):
        with pytest.raises(InvalidError, match="device"):
            authority.sign_device_csr(request, DeviceId(name))


def test_the_list_of_revoked_ones_says_these_and_no_others(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    authority.revoke(["ab12", "ff", "ff"])
    authority.revoke(["ab12", "01"])

    crl = x509.load_pem_x509_crl(authority.crl_file.read_bytes())
    root = _certificate(authority.ca_file).public_key()
    assert isinstance(root, ec.EllipticCurvePublicKey)
    assert crl.is_signature_valid(root)
    assert {revoked.serial_number for revoked in crl} == {0xAB12, 0x01}


def test_killed_at_any_durable_write_the_next_start_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerCutError(BaseException):
        pass

    def cut_before(steps: int) -> Callable[[str, Path], None]:
        left = iter(range(steps))

        def commit_point(_step: str, _path: Path) -> None:
            if next(left, None) is None:
                raise PowerCutError

        return commit_point

    for steps in range(40):
        directory = tmp_path / str(steps)
        with monkeypatch.context() as patch:
            patch.setattr(files, "commit_point", cut_before(steps))
            try:
                Authority.open(directory)
            except PowerCutError:
                interrupted = True
            else:
                interrupted = False
        kept = _contents(directory)
        opened = Authority.open(directory)
        now = _contents(directory)

        assert kept.items() <= now.items()
        assert len(now) == 7
        server = _certificate(opened.server_cert_file)
        server.verify_directly_issued_by(_certificate(opened.ca_file))
        shutil.rmtree(directory)
        if not interrupted:
            break
    assert not interrupted
    assert steps > 15


def test_a_lost_root_key_is_not_replaced_in_silence(tmp_path: Path) -> None:
    Authority.open(tmp_path).directory.joinpath("ca.key").unlink()

    with pytest.raises(InvalidError, match="restore it from a backup"):
        Authority.open(tmp_path)


def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    (Authority.open(tmp_path).directory / "server.key").write_text("nonsense")

    with pytest.raises(InvalidError, match=r"server\.key"):
        Authority.open(tmp_path)


def test_each_authority_has_a_name_of_its_own(tmp_path: Path, authority: Authority) -> None:
    other = Authority.open(tmp_path)

    assert _certificate(other.ca_file).subject != _certificate(authority.ca_file).subject
