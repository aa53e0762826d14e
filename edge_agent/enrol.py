"""How a device gets its name and its certificate; a short process of its own.

    {data}/identity/device.key   made here, never leaves the device (0600)
                    ca.pem       the registry's CA, checked against the token
                    device.pem   what the broker knows us by
    {data}/identity.json         who we are and where to connect; written last: enrolled or not

May be killed at any moment and be run again: the key is kept, and without identity.json the device
is not enrolled.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runtime import files, tls, topics
from runtime.errors import InvalidError, LinkError, PackhorseError

if TYPE_CHECKING:  # heavy: loaded only by the process that enrols
    from cryptography.hazmat.primitives.asymmetric import ec

TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 64 * 1024
MAX_IDENTITY_BYTES = 16 * 1024
MAX_DETAIL_CHARS = 500
CREATED, OK = 201, 200
SERVER_TROUBLE = 500
_TOKEN = re.compile(r"(pht_[A-Za-z0-9_-]{16,128})\.([0-9a-f]{64})")
_IDENTITY = "identity.json"


class EnrolRefusedError(PackhorseError):
    """The registry does not let this device in; the text is the registry's own."""


@dataclass(frozen=True)
class Identity:
    """Who this device is, and where its registry and broker are."""

    device: str
    registry_url: str
    broker_host: str
    broker_port: int
    ca_fingerprint: str
    certificate_not_after: float
    """Seconds since 1970."""


class _Broker(msgspec.Struct, frozen=True):
    host: str
    port: int


class _Enrolled(msgspec.Struct, frozen=True):
    """What of the registry's answer matters here; the CA in it is not news."""

    device: str
    certificate: str
    broker: _Broker
    registry_url: str
    certificate_not_after: float


class _Problem(msgspec.Struct, frozen=True):
    """An error of the registry's API (RFC 9457)."""

    detail: str = ""
    title: str = ""


def load(data: Path) -> Identity | None:
    """Return who the device in `data` is, or None before it is enrolled.

    Raises InvalidError if the file is damaged.
    """
    path = data / _IDENTITY
    try:
        with path.open("rb") as file:
            text = file.read(MAX_IDENTITY_BYTES)
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(text, type=Identity)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidError(str(path), text[:80], f"enrol again with --force ({error})") from error


def enrol(
    data: Path,
    *,
    url: str,
    token: str,
    device_id: str | None,
    facts: dict[str, str],
    force: bool = False,
) -> Identity:
    """Make this device known to the registry at `url`; return who it is.

    Raises InvalidError for a token, URL or id that cannot be right, or if the device is enrolled
    already (unless `force`); IntegrityError if another registry answers than the token's;
    EnrolRefusedError if the registry says no; LinkError if it does not answer.
    """
    secret, fingerprint = parse_token(token)
    tls.parse_url(url)
    if device_id is not None:
        topics.device_id(device_id)
    if not force and (present := load(data)) is not None:
        raise InvalidError(
            str(data), present.device, "it is enrolled already; give --force to enrol it anew"
        )
    from runtime import keyfiles  # noqa: PLC0415 - heavy, and the agent imports this module

    ca_pem = tls.fetch_ca(url, fingerprint, TIMEOUT_S)
    directory = files.make_directory(data / "identity")
    files.sweep_temporaries(directory)
    key = keyfiles.own_key(directory / "device.key", remedy="remove it and enrol again")
    request = {"token": f"{secret}.{fingerprint}", "device_id": device_id, "facts": facts}
    answer = _ask(url, ca_pem, {**request, "csr": _request(key)})
    _check(answer, ca_pem, key, device_id)
    files.write_atomic(directory / "ca.pem", ca_pem.encode("ascii"))
    files.write_atomic(directory / "device.pem", answer.certificate.encode("ascii"))
    return _take_on(data, answer, fingerprint)


def _take_on(data: Path, answer: _Enrolled, fingerprint: str) -> Identity:
    """Write down who we are: from here on the device is enrolled."""
    identity = Identity(
        device=answer.device,
        registry_url=answer.registry_url,
        broker_host=answer.broker.host,
        broker_port=answer.broker.port,
        ca_fingerprint=fingerprint,
        certificate_not_after=answer.certificate_not_after,
    )
    files.write_json(data / _IDENTITY, asdict(identity))
    return identity


def parse_token(token: str) -> tuple[str, str]:
    """Return a token's secret and the CA fingerprint in it; the error never shows the secret."""
    match = _TOKEN.fullmatch(token.strip())
    if match is None:
        raise InvalidError(
            "token",
            f"a text of {len(token)} characters",
            "a token looks like pht_SECRET.FINGERPRINT, the last part being 64 hexadecimal digits:"
            " copy the whole of what `packhorse devices token` printed",
        )
    return match[1], match[2]


def _ask(url: str, ca_pem: str, request: Mapping[str, object]) -> _Enrolled:
    status, body = tls.exchange(
        f"{url.rstrip('/')}/api/v1/enrol",
        context=tls.client_context(ca_pem=ca_pem),
        timeout_s=TIMEOUT_S,
        limit_bytes=MAX_ANSWER_BYTES,
        body=msgspec.json.encode(request),
    )
    if status not in {OK, CREATED}:
        said = _detail(body) or f"status {status}"
        if status >= SERVER_TROUBLE:
            raise LinkError(f"the registry has trouble of its own: {said}: try again later")
        raise EnrolRefusedError(said)
    try:
        return msgspec.json.decode(body, type=_Enrolled)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LinkError(f"{url} answered what no registry answers: {error}") from error


def _detail(body: bytes) -> str:
    """Return what a problem says, safe to print on a terminal."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    said = problem.detail or problem.title
    return "".join(char for char in said if char.isprintable())[:MAX_DETAIL_CHARS]


def _check(
    answer: _Enrolled, ca_pem: str, key: "ec.EllipticCurvePrivateKey", asked: str | None
) -> None:
    """Raise InvalidError unless the certificate is ours, by this CA, for the device it names."""
    from cryptography import x509  # noqa: PLC0415 - see the module's head
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

    topics.device_id(answer.device)
    if asked not in {None, answer.device}:
        raise InvalidError("device", answer.device, f"the registry was asked for {asked}")
    tls.parse_url(answer.registry_url)
    if not answer.broker.host or not 0 < answer.broker.port < 1 << 16:
        raise InvalidError("broker", answer.broker, "the registry must name a host and a port")
    try:
        certificate = x509.load_pem_x509_certificate(answer.certificate.encode("ascii"))
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem.encode()))
    except (ValueError, TypeError, InvalidSignature) as error:
        raise InvalidError(
            "certificate", answer.certificate[:80], "the registry's CA must have signed it"
        ) from error
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    if certificate.public_key() != key.public_key() or [n.value for n in names] != [answer.device]:
        raise InvalidError(
            "certificate", certificate.subject.rfc4514_string(), "it must be of our key and name"
        )


def _request(key: "ec.EllipticCurvePrivateKey") -> str:
    """Return a certificate request (PEM): it proves that we hold the key, the registry names us."""
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415

    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = builder.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode("ascii")
