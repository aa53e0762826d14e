"""Signatures of the Standard Webhooks specification, so that receivers can use its libraries.

    webhook-id: evt_12_0a1b2c3d
    webhook-timestamp: 1767225600
    webhook-signature: v1,<base64 of HMAC-SHA256 of "{id}.{timestamp}.{body}">

The secret is "whsec_" and the base64 of 24 to 64 bytes. Pure.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping

from runtime.errors import InvalidError

PREFIX = "whsec_"
SECRET_BYTES = 32
LEAST_BYTES, MOST_BYTES = 24, 64
TOLERANCE_S = 300.0
"""How far a receiver's clock may be from ours, and how old a copied message may be."""


def make_secret() -> str:
    """Return a new secret, as it is shown."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Return the bytes of a secret; raise InvalidError, which does not show it, if it is none."""
    fix = f"give {PREFIX} and the base64 of {LEAST_BYTES} to {MOST_BYTES} bytes, or none"
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidError("secret", "(not shown)", fix) from None
    if not secret.startswith(PREFIX) or not LEAST_BYTES <= len(key) <= MOST_BYTES:
        raise InvalidError("secret", "(not shown)", fix)
    return key


def sign(secret: str, *, message: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a message with this id, sent at this second."""
    signed = f"{message}.{timestamp}.".encode() + body
    digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def headers(secret: str, *, message: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return what a message carries beside its body."""
    return {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, message=message, timestamp=timestamp, body=body),
    }


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: float) -> None:
    """Raise InvalidError unless the message is from who knows the secret, and fresh.

    For receivers in Python; names of headers are in lower case.
    """
    message = headers.get("webhook-id", "")
    stamp = headers.get("webhook-timestamp", "")
    if not stamp.isascii() or not stamp.isdigit() or abs(now - int(stamp)) > TOLERANCE_S:
        raise InvalidError("webhook-timestamp", stamp, "a time near now: check both clocks")
    wanted = sign(secret, message=message, timestamp=int(stamp), body=body)
    given = headers.get("webhook-signature", "").split(" ")
    if not any(hmac.compare_digest(wanted.encode(), each.encode()) for each in given):
        raise InvalidError("webhook-signature", "(not shown)", "it is not signed with this secret")
