"""What is sealed to a device is read by that device alone."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from runtime import sealing
from runtime.errors import InvalidError


def identity() -> tuple[bytes, bytes]:
    """Return a certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dev-a")])
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
    end = begin + dt.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, end)
    made = builder.sign(key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.public_bytes(Encoding.PEM), pem


def test_only_the_holder_of_the_key_opens_what_was_sealed() -> None:
    certificate, key = identity()
    sealed = sealing.seal("öpen sesame".encode(), certificate)

    assert sealing.unseal(sealed, key) == "öpen sesame".encode()
    assert sealing.seal(b"", certificate) != sealing.seal(b"", certificate), "never the same twice"
    with pytest.raises(InvalidError, match="another certificate"):
        sealing.unseal(sealed, identity()[1])


@pytest.mark.parametrize("sealed", ["", "no base64!", "AAAA", "A" * 120])
def test_what_was_not_sealed_is_refused(sealed: str) -> None:
    with pytest.raises(InvalidError, match="sealed"):
        sealing.unseal(sealed, identity()[1])


def test_a_changed_byte_is_noticed() -> None:
    certificate, key = identity()
    sealed = sealing.seal(b"open sesame", certificate)
    changed = sealed[:-6] + ("A" if sealed[-6] != "A" else "B") + sealed[-5:]

    with pytest.raises(InvalidError, match="another certificate"):
        sealing.unseal(changed, key)


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(InvalidError, match="certificate"):
        sealing.seal(b"x", b"-----BEGIN")
