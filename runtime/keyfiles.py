"""Private keys in files: made where they are used, readable by their owner alone."""

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from runtime import files
from runtime.errors import InvalidError


def own_key(path: Path, *, remedy: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key at `path`, made durably if there is none.

    Raises InvalidError, which ends in `remedy`, if what is there is no such key.
    """
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        pem = made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        files.write_atomic(path, pem, mode=0o600)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except ValueError as error:
        raise InvalidError(str(path), "a damaged key", remedy) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidError(str(path), type(key).__name__, remedy)
    return key
