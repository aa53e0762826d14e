"""TLS as a client, and how a device comes to trust its registry.

Only the standard library: the agent's supervisor imports this. The one thing a new device knows is
the SHA-256 of the registry's CA certificate, a part of its enrolment token; whatever hands out a
certificate with that digest may be believed, however it was reached.
"""

import hashlib
import http.client
import ssl
import time
import urllib.parse
from pathlib import Path

from runtime.errors import IntegrityError, InvalidError, LinkError

MAX_CA_BYTES = 64 * 1024
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
OK = 200


def client_context(
    *, ca_pem: str, cert_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """Return a context that trusts this CA alone and shows this certificate, from TLS 1.2 up.

    Raises LinkError if one of them cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as error:
        raise LinkError(f"the CA certificate cannot be read: {error}: enrol again") from error
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file)
        except (OSError, ValueError) as error:
            raise LinkError(
                f"the certificate {cert_file} or its key cannot be used: {error}: enrol again"
            ) from error
    return context


def fingerprint(pem: str) -> str:
    """Return the SHA-256 of a certificate's DER bytes as 64 hexadecimal digits.

    Raises InvalidError if `pem` is not one certificate.
    """
    return hashlib.sha256(_der(pem)).hexdigest()


def fetch_ca(url: str, fingerprint: str, timeout_s: float) -> str:
    """Return the PEM of the registry's CA, fetched without trust and checked by its digest.

    Raises LinkError if the registry does not hand it out, InvalidError if the answer is no
    certificate, IntegrityError if it is another CA than the one that was promised.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    status, body = exchange(
        f"{url.rstrip('/')}/api/v1/ca",
        context=context,
        timeout_s=timeout_s,
        limit_bytes=MAX_CA_BYTES,
    )
    if status != OK:
        raise LinkError(f"{url} answered {status} when asked for its CA: is it a registry?")
    der = _der(body.decode("ascii", "replace"))
    got = hashlib.sha256(der).hexdigest()
    if got != fingerprint:
        raise IntegrityError(
            f"CA of {url} is not the one in the token", wanted=fingerprint, got=got
        )
    # Written anew from the bytes that were checked: nothing can ride along in the text.
    return ssl.DER_cert_to_PEM_cert(der)


def exchange(
    url: str,
    *,
    context: ssl.SSLContext,
    timeout_s: float,
    limit_bytes: int,
    body: bytes | None = None,
) -> tuple[int, bytes]:
    """GET `url`, or POST `body` as JSON to it; return status and body.

    Follows no redirect. Plain http is spoken to this machine only (InvalidError). Raises LinkError
    if there is no answer within `timeout_s`, or one of more than `limit_bytes`.
    """
    deadline = time.monotonic() + timeout_s
    parts = parse_url(url)
    host, place = parts.hostname or "", f"{parts.hostname}:{parts.port or parts.scheme}"
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=context)
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
    )
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request("GET" if body is None else "POST", parts.path, body, headers)
        response = connection.getresponse()
        return response.status, _read(response, place, limit_bytes, deadline)
    except ssl.SSLCertVerificationError as error:
        raise LinkError(f"{place}: certificate not trusted: {error.verify_message}") from error
    except (OSError, http.client.HTTPException) as error:
        raise LinkError(f"{place} could not be reached: {error or type(error).__name__}") from error
    finally:
        connection.close()


def parse_url(url: str) -> urllib.parse.SplitResult:
    """Return the parts of a registry's URL; raise InvalidError unless it is safe to talk to."""
    fix = "give the registry's address, such as https://registry.example:8443"
    try:
        parts = urllib.parse.urlsplit(url)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise InvalidError("url", url, fix) from error
    if not known or parts.username or any(char <= " " for char in url):
        raise InvalidError("url", url, fix)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise InvalidError("url", url, "use https://: plain http is for this machine itself only")
    return parts


def _read(
    response: http.client.HTTPResponse, place: str, limit_bytes: int, deadline: float
) -> bytes:
    """Read a whole answer, but neither without end nor for ever."""
    body = bytearray()
    while chunk := response.read1(limit_bytes):
        body += chunk
        if len(body) > limit_bytes:
            raise LinkError(f"{place} answered with more than {limit_bytes} bytes")
        if time.monotonic() > deadline:
            raise LinkError(f"{place} did not finish its answer in time")
    return bytes(body)


def _der(pem: str) -> bytes:
    try:
        if pem.count("-----BEGIN") == 1:
            return ssl.PEM_cert_to_DER_cert(pem.strip())
    except ValueError:
        pass
    raise InvalidError("certificate", pem[:80], "give one certificate in PEM")
