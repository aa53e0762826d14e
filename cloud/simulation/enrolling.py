"""Many devices enrolled at once, in a registry that does not run yet.

The same tokens, requests, certificates and rows as by the API, in few transactions; the broker
learns of all of them at its start. The devices' own files are gone with the simulation, so nothing
waits for the disk.
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlmodel import Session

from cloud import database, endpoints
from cloud.registry import enrolment, tokens
from cloud.settings import Settings
from cloud.trust.authority import DEVICE_DAYS, Authority
from runtime.topics import DeviceId

DAY_S = 86_400.0
TOGETHER = 250
"""Devices in one transaction."""
FACTS = {"arch": "aarch64", "os": "simulated"}


def enrol(settings: Settings, devices: Sequence[str], labels: dict[str, str], at: Path) -> None:
    """Enrol devices in the registry of `settings`, each with its files in `at`/NAME.

    Where the registry will listen is not known yet: see `tell_place`.
    """
    engine = database.open_engine(settings.url_of_database)
    try:
        database.migrate(engine)
        names = endpoints.certificate_names(settings)
        authority = Authority.open(settings.authority_directory, names=names)
        for group in _groups(devices):
            with database.transaction(engine) as session:
                for device in group:
                    _enrol(session, authority, DeviceId(device), labels, at / device)
    finally:
        engine.dispose()


def tell_place(devices: Sequence[str], at: Path, *, url: str, broker_port: int) -> None:
    """Tell enrolled devices where the registry is."""
    host = urlsplit(url).hostname
    for device in devices:
        identity = {
            "device": device,
            "registry_url": url,
            "broker_host": host,
            "broker_port": broker_port,
            "ca_fingerprint": "",
            "certificate_not_after": time.time() + DEVICE_DAYS * DAY_S,
        }
        (at / device / "identity.json").write_text(json.dumps(identity), "utf-8")


def _groups(devices: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(devices), TOGETHER):
        yield devices[start : start + TOGETHER]


def _enrol(
    session: Session,
    authority: Authority,
    device: DeviceId,
    labels: dict[str, str],
    directory: Path,
) -> None:
    now = time.time()
    identity = directory / "identity"
    identity.mkdir(parents=True)
    key = _new_key(identity / "device.key")
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    token, _row = tokens.create(
        session,
        labels=labels,
        ttl_s=tokens.DEFAULT_TTL_S,
        device=device,
        fingerprint=authority.fingerprint,
        actor="simulation",
        now=now,
    )
    enrolled = enrolment.enrol(
        session,
        authority,
        token=token,
        csr=csr.decode("ascii"),
        device_id=device,
        facts=FACTS,
        now=now,
    )
    (identity / "device.pem").write_text(enrolled.certificate, "ascii")
    (identity / "ca.pem").write_text(authority.ca_pem, "ascii")


def _new_key(path: Path) -> ec.EllipticCurvePrivateKey:
    made = ec.generate_private_key(ec.SECP256R1())
    pem = made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.touch(mode=0o600)
    path.write_bytes(pem)
    return made
