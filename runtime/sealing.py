"""Words that one device alone can read: sealed to its certificate's key, which never leaves it.

A key pair made for the one message and the device's key (P-256) agree on a secret; what HKDF makes
of it encrypts with AES-256-GCM. Nobody on the way, broker and registry included, can read it.
"""

import base64
import binascii
from typing import TYPE_CHECKING

from runtime.errors import InvalidError

if TYPE_CHECKING:  # heavy: loaded where something is sealed or opened
    from cryptography.hazmat.primitives.asymmetric import ec

_POINT_BYTES = 65
_KEY_BYTES = 32
_NONCE = bytes(12)
"""Each key encrypts once."""
_PURPOSE = b"packhorse sealed to a device 1"


def seal(plain: bytes, certificate_pem: bytes) -> str:
    """Return text that the holder of a certificate's key can open."""
    from cryptography import x509  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    try:
        theirs = x509.load_pem_x509_certificate(certificate_pem).public_key()
    except ValueError as error:
        raise InvalidError("certificate", certificate_pem[:40], "it is none") from error
    if not isinstance(theirs, ec.EllipticCurvePublicKey):
        raise InvalidError("certificate", type(theirs).__name__, "its key must be of P-256")
    once = ec.generate_private_key(ec.SECP256R1())
    point = _point(once.public_key())
    key = _key(once.exchange(ec.ECDH(), theirs), point + _point(theirs))
    return base64.b64encode(point + AESGCM(key).encrypt(_NONCE, plain, None)).decode("ascii")


def unseal(sealed: str, key_pem: bytes) -> bytes:
    """Return what was sealed to our certificate; raise InvalidError if it was not."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_pem_private_key,
    )

    ours = load_pem_private_key(key_pem, None)
    assert isinstance(ours, ec.EllipticCurvePrivateKey), "enrol.py makes no others"
    try:
        data = base64.b64decode(sealed, validate=True)
        point, rest = data[:_POINT_BYTES], data[_POINT_BYTES:]
        theirs = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        key = _key(ours.exchange(ec.ECDH(), theirs), point + _point(ours.public_key()))
        return AESGCM(key).decrypt(_NONCE, rest, None)
    except (binascii.Error, ValueError, InvalidTag) as error:
        fix = "it was sealed for another certificate: ask the device for its present one"
        raise InvalidError("sealed", sealed[:16], fix) from error


def _point(key: "ec.EllipticCurvePublicKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - see above
        Encoding,
        PublicFormat,
    )

    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _key(agreed: bytes, both: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    return HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=_PURPOSE + both).derive(agreed)
