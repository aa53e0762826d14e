"""How a token and a signing request become a device with a certificate.

An answer may be lost after it was committed here. So a device that asks again, with the token it
used up and the same key, gets the same answer; nobody else gains anything by that token.
"""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from sqlmodel import Session

from cloud import tables
from cloud.errors import ConflictError
from cloud.registry import desired, devices, events, runs, tokens
from cloud.services import Change, mark
from cloud.trust import certificates
from cloud.trust.authority import Authority
from runtime import topics
from runtime.errors import InvalidError
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
MAX_FACT_CHARS = 256
AGAIN_S = 600.0
"""How long after its use, though it expired meanwhile, a token still gets its answer again."""


@dataclass(frozen=True)
class Enrolled:
    """What the device gets."""

    device: DeviceId
    certificate: str
    """PEM."""
    serial: str
    """Hexadecimal."""
    not_after: float


def enrol(
    session: Session,
    authority: Authority,
    *,
    token: str,
    csr: str,
    device_id: str | None,
    facts: Mapping[str, str],
    now: float,
) -> Enrolled:
    """Make (or renew) a device, its certificate and its desired state; use the token up.

    The id is that of the token, or else the one asked for, or else a new one. Whoever asks again
    gets what it got. Raises what `tokens` raises, ConflictError for an id that has enrolled and
    that the token does not name, InvalidError for anything malformed.
    """
    row = tokens.find(session, token)
    if (again := _answer_again(session, row, csr, device_id, now)) is not None:
        return again
    tokens.require_good(row, now=now)
    device = _choose_id(row, device_id)
    present = session.get(tables.Device, device)
    if present is not None and row.device != device:
        raise ConflictError(
            f"device: {device} has enrolled before: to enrol it again, make a token for it: "
            f"`packhorse devices token --device {device}`"
        )
    certificate, serial = authority.sign_device_csr(csr, device)
    not_after = x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc
    enrolled = Enrolled(device, certificate, serial, not_after.timestamp())
    if present is None:
        present = tables.Device(
            id=device, created_at=now, certificate_serial=serial, certificate_not_after=0.0
        )
    heard = present.last_seen
    _take_over(present, enrolled, {**present.labels, **row.labels}, _check_facts(facts))
    _store(session, present, enrolled, row, heard=heard, now=now)
    runs.close_all(session, device, reason=runs.ENROLLED, now=now)
    return enrolled


def _answer_again(
    session: Session, token: tables.EnrolmentToken, csr: str, asked: str | None, now: float
) -> Enrolled | None:
    """Return what the device has that used this token, if it is the one that asks now.

    That it is the same shows by its key, which the request proves to be in the asker's hands.
    """
    if token.used_at is None or now > max(token.expires_at, token.used_at + AGAIN_S):
        return None
    device = session.get(tables.Device, token.used_by)
    if device is None or device.revoked_at is not None or asked not in {None, device.id}:
        return None
    kept = session.get(tables.Certificate, device.certificate_serial)
    if kept is None or not certificates.is_for(kept.pem, csr):
        return None
    # The broker may not know it yet: the registry may have died right after the commit.
    mark(session, Change.DEVICES)
    log.info("enrolment answered again", extra={"device": device.id})
    return Enrolled(DeviceId(device.id), kept.pem, kept.serial, kept.not_after)


def _store(
    session: Session,
    device: tables.Device,
    enrolled: Enrolled,
    token: tables.EnrolmentToken,
    *,
    heard: float | None,
    now: float,
) -> None:
    """Write all of it; `heard` is when the device was last heard from under its id."""
    session.add(device)
    # Each row must be there before those that refer to it; the tables have no relationships
    # from which the session could know.
    session.flush()
    session.add(
        tables.Certificate(
            serial=enrolled.serial,
            device=device.id,
            pem=enrolled.certificate,
            issued_at=now,
            not_after=enrolled.not_after,
        )
    )
    token.used_at, token.used_by = now, device.id
    session.add(token)
    desired.renew(session, enrolled.device, now=now)
    mark(session, Change.DEVICES)
    events.add(
        session,
        at=now,
        actor=events.device_actor(device.id),
        kind="device.enrolled",
        subject=device.id,
        data={
            "serial": enrolled.serial,
            "labels": device.labels,
            "token_by": token.created_by,
            "silent_since": heard,
        },
    )


def _choose_id(token: tables.EnrolmentToken, asked: str | None) -> DeviceId:
    if token.device is not None:
        if asked not in {None, token.device}:
            raise InvalidError("device_id", asked, f"this token is for {token.device} only")
        return DeviceId(token.device)
    if asked is not None:
        return topics.device_id(asked, "device_id")
    return DeviceId("dev-" + "".join(secrets.choice(_LETTERS) for _ in range(8)))


def _take_over(
    device: tables.Device,
    enrolled: Enrolled,
    labels: dict[str, str],
    facts: dict[str, str],
) -> None:
    device.labels = devices.check_labels(labels)
    device.facts = facts or device.facts
    device.certificate_serial = enrolled.serial
    device.certificate_not_after = enrolled.not_after
    device.revoked_at = None
    device.revision += 1
    # What it reported under an older identity says nothing about it now.
    device.reported, device.reported_at, device.reported_generation = None, None, 0
    device.online, device.lease_s, device.last_seen = None, None, None


def _check_facts(facts: Mapping[str, str]) -> dict[str, str]:
    if len(facts) > devices.MAX_FACTS:
        raise InvalidError("facts", f"{len(facts)} facts", f"send at most {devices.MAX_FACTS}")
    for key, value in facts.items():
        if len(key) > MAX_FACT_CHARS or len(value) > MAX_FACT_CHARS:
            raise InvalidError(f"facts.{key[:40]}", value, f"use at most {MAX_FACT_CHARS} letters")
    return dict(facts)
