"""What our certificates say, and which requests for one are acceptable; no files here.

Every certificate is valid from 1970-01-01 on: a device without a battery for its clock wakes up at
that date, and must be able to check the server, and to connect, before anyone can tell it the time.
What limits a certificate is its end, and the list of devices that the broker lets in.
"""

import datetime as dt
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime.errors import InvalidError

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
CA_DAYS = 20 * 365
MAX_CSR_BYTES = 16 * 1024
MIN_RSA_BITS = 2048
FOR_SERVERS = ExtendedKeyUsageOID.SERVER_AUTH
FOR_CLIENTS = ExtendedKeyUsageOID.CLIENT_AUTH

OwnKey: TypeAlias = ec.EllipticCurvePrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


def make_root(key: OwnKey) -> x509.Certificate:
    """Return the self-signed certificate of a CA; it may sign devices and servers, no other CA."""
    public = key.public_key()
    # A name of its own for each CA: otherwise a client that met two could take one for the other.
    suffix = x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()[:12]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"packhorse CA {suffix}")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(EPOCH)
        .not_valid_after(_in_days(CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def issue(
    root: x509.Certificate,
    root_key: OwnKey,
    name: str,
    public_key: PublicKey,
    *,
    days: int,
    usage: x509.ObjectIdentifier,
    names: Sequence[x509.GeneralName] = (),
    numbered: bool = False,
) -> x509.Certificate:
    """Return a certificate for CN=`name`, good for one usage, until `days` from now.

    With `numbered`, the subject also has its serial number (as `serial_of` gives it): two
    certificates of one name are then two subjects, and a broker can let in one of them only.
    """
    serial = x509.random_serial_number()
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if numbered:
        subject.insert(0, x509.NameAttribute(NameOID.SERIAL_NUMBER, f"{serial:x}"))
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(root.subject)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(EPOCH)
        .not_valid_after(_in_days(days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_issued_by(root_key), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(root_key, hashes.SHA256())


def revocation_list(
    root: x509.Certificate, root_key: OwnKey, serials: Iterable[str]
) -> x509.CertificateRevocationList:
    """Return the list that revokes these serial numbers (hexadecimal)."""
    now = dt.datetime.now(dt.timezone.utc)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.subject)
        .last_update(EPOCH)
        .next_update(_in_days(CA_DAYS))
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
        .add_extension(_issued_by(root_key), critical=False)
    )
    for serial in sorted(set(serials)):
        revoked = x509.RevokedCertificateBuilder(int(serial, 16), EPOCH)
        builder = builder.add_revoked_certificate(revoked.build())
    return builder.sign(root_key, hashes.SHA256())


def key_of_request(csr_pem: str) -> PublicKey:
    """Return the key of a certificate request whose signature is right, if we sign such keys."""
    if len(csr_pem) > MAX_CSR_BYTES:
        raise InvalidError("csr", f"{len(csr_pem)} characters", f"send at most {MAX_CSR_BYTES}")
    fix = "send a certificate request in PEM, signed by its own key"
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode("ascii"))
        genuine = request.is_signature_valid
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise InvalidError("csr", csr_pem[:80], fix) from error
    if not genuine:
        raise InvalidError("csr", "a wrong signature", fix)
    match key:
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return key
        case rsa.RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
            return key
        case ed25519.Ed25519PublicKey():
            return key
        case _:
            raise InvalidError(
                "csr", type(key).__name__, "use a key of EC P-256, Ed25519 or RSA >= 2048 bits"
            )


def is_for(certificate_pem: str, csr_pem: str) -> bool:
    """Return whether a certificate of ours is for the key of a request; raises as above."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode("ascii"))
    return certificate.public_key() == key_of_request(csr_pem)


def subject_names(extra: Sequence[str]) -> list[x509.GeneralName]:
    """Return the names of this host, and `extra` ones; raise InvalidError for what is no name."""
    wanted = ["localhost", "127.0.0.1", "::1", socket.gethostname(), *extra]
    return [_general_name(name) for name in dict.fromkeys(wanted) if name]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name.encode("idna").decode("ascii"))
    except ValueError as error:
        raise InvalidError("server name", name, "give a host name or an IP address") from error


def serial_of(certificate: x509.Certificate) -> str:
    """Return the serial number of a certificate, hexadecimal, as it stands in our tables."""
    return f"{certificate.serial_number:x}"


def names_of(certificate: x509.Certificate) -> set[x509.GeneralName]:
    """Return the names that a server certificate covers."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return set(found)


def pem(certificate: x509.Certificate) -> str:
    """Return a certificate as text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _issued_by(key: OwnKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _in_days(days: int) -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=days)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
