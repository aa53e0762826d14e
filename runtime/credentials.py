"""Where a link connects to, what it shows there, and whom it trusts."""

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from runtime import tls
from runtime.errors import LinkError
from runtime.tlssocket import GatheringSocket


@dataclass(frozen=True)
class LinkSettings:
    """Where the broker is and who we are; the files are read at each connect."""

    host: str
    port: int
    client_id: str
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 30
    clean_session: bool = True
    """False: the broker keeps QoS 1 messages for us, and takes each back until it is acked."""
    tls: bool = True


def session_name(settings: LinkSettings) -> str:
    """Return the client id on the wire: the same at each connect, and nobody else's to guess.

    Brokers give a session to whoever names it, and hang up on the one before. So a client that
    could guess another's id could keep it away, whatever its rights are.
    """
    if settings.key_file is None:
        return settings.client_id
    try:
        secret = settings.key_file.read_bytes()
    except OSError as error:
        raise LinkError(f"the key {settings.key_file}: {error}: enrol again") from error
    return f"{settings.client_id}-{hashlib.sha256(b'mqtt session ' + secret).hexdigest()[:16]}"


def context(settings: LinkSettings) -> ssl.SSLContext:
    """Return the TLS context, from the files as they are now; raise LinkError if one is bad."""
    if settings.ca_file is None:
        raise LinkError("no CA certificate is set for the broker: enrol, or set ca_file")
    try:
        ca_pem = settings.ca_file.read_text("ascii")
    except (OSError, ValueError) as error:
        raise LinkError(f"the CA certificate {settings.ca_file}: {error}: enrol again") from error
    made = tls.client_context(
        ca_pem=ca_pem, cert_file=settings.cert_file, key_file=settings.key_file
    )
    made.sslsocket_class = GatheringSocket
    return made


def refusal(text: str) -> str:
    """Tell a broker that does not want us from one that cannot be reached."""
    low = text.lower()
    alert = "alert" in low and ("certificate" in low or "unknown ca" in low)
    if alert or "not authorized" in low or "bad user name" in low:
        return f"the broker refused this certificate: {text}"
    return text
