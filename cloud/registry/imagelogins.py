"""Logins to image registries: kept sealed here, sealed anew for each device that shall have them.

A password can be changed and removed, and is never shown. Whoever is matched by several for one
image registry has the one that was made last. What a device has rides in its desired state, so one
that is away has it when it comes back; a change of it is a new generation.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from sqlmodel import Session, col, func, select

from cloud import tables
from cloud.errors import ConflictError, NotFoundError
from cloud.registry import events, selectors
from cloud.registry.intents import Target
from cloud.services import sealer_of
from runtime import imagelogins
from runtime.errors import InvalidError
from runtime.imagelogins import ImageLogins, Login
from runtime.imageregistry import names

MAX_LOGINS = 500
MAX_USERNAME_CHARS = 255


def keep(
    session: Session,
    registry: str,
    selector: str,
    login: Login,
    *,
    actor: str,
    now: float,
) -> tables.ImageLogin:
    """Keep a login for the devices of a selector, in place of the one that they had by it."""
    names.check_host(registry, "registry")
    written = str(selectors.parse(selector))
    _check(login)
    row = _find(session, registry, written)
    known = row is not None
    if row is None:
        if session.exec(select(func.count()).select_from(tables.ImageLogin)).one() >= MAX_LOGINS:
            raise ConflictError(f"image logins: there may be {MAX_LOGINS} of them")
        row = tables.ImageLogin(
            host=registry,
            selector=written,
            username="",
            password=b"",
            created_at=now,
            changed_at=now,
            changed_by=actor,
        )
    row.username = login.username
    row.password = sealer_of(session).seal(login.password.encode(), _purpose(registry, written))
    row.changed_at, row.changed_by = now, actor
    row.revision += known
    session.add(row)
    session.flush()
    _tell(session, row, "image_login.changed" if known else "image_login.created", actor, now)
    return row


def remove(session: Session, row: tables.ImageLogin, *, actor: str, now: float) -> None:
    """Forget a login; the devices that have it forget it too."""
    _tell(session, row, "image_login.removed", actor, now)
    session.delete(row)
    session.flush()


def get(session: Session, login: int) -> tables.ImageLogin:
    """Return a login; raise NotFoundError if there is none."""
    row = session.get(tables.ImageLogin, login)
    if row is None:
        raise NotFoundError("image login", str(login), "see `packhorse image-logins list`")
    return row


def page(session: Session, *, after: int, limit: int) -> Sequence[tables.ImageLogin]:
    """Return logins by id, from behind `after` on."""
    row = tables.ImageLogin
    query = select(row).where(col(row.id) > after).order_by(col(row.id))
    return session.exec(query.limit(limit)).all()


def every(session: Session) -> Sequence[tables.ImageLogin]:
    """Return all logins, the oldest first."""
    return page(session, after=0, limit=MAX_LOGINS)


def chosen(rows: Iterable[tables.ImageLogin], device: Target) -> Mapping[str, tables.ImageLogin]:
    """Return who a device shall be, by image registry; `rows` are the oldest first."""
    if device.revoked:
        return {}
    attributes = device.attributes
    return {row.host: row for row in rows if selectors.parse(row.selector).matches(attributes)}


def sealed(
    session: Session,
    serial: str | None,
    wanted: Mapping[str, tables.ImageLogin],
    held: ImageLogins | None,
) -> ImageLogins | None:
    """Return logins as a device can read them: those that it `held`, if they are still these.

    `serial` is that of the device's certificate.
    """
    if not wanted:
        return None
    named = "".join(f"{row.id}.{row.revision}," for row in wanted.values())
    made = hashlib.sha256(f"{serial}:{named}".encode()).hexdigest()[:16]
    if held is not None and held.made == made:
        return held
    certificate = session.get(tables.Certificate, serial)
    if certificate is None:
        return None
    sealer = sealer_of(session)
    opened = {
        host: Login(
            row.username, sealer.unseal(row.password, _purpose(host, row.selector)).decode()
        )
        for host, row in wanted.items()
    }
    return imagelogins.seal(opened, certificate.pem.encode(), made)


def _check(login: Login) -> None:
    if not 0 < len(login.username) <= MAX_USERNAME_CHARS or not login.username.isprintable():
        fix = f"give 1 to {MAX_USERNAME_CHARS} characters"
        raise InvalidError("username", login.username, fix)
    size = len(login.password.encode())
    if not 0 < size <= imagelogins.MAX_PASSWORD_BYTES:
        fix = f"give 1 to {imagelogins.MAX_PASSWORD_BYTES} bytes"
        raise InvalidError("password", f"{size} bytes", fix)


def _find(session: Session, registry: str, selector: str) -> tables.ImageLogin | None:
    row = tables.ImageLogin
    query = select(row).where(row.host == registry, row.selector == selector)
    return session.exec(query).first()


def _purpose(registry: str, selector: str) -> str:
    return f"image-login {registry} {selector}"


def _tell(session: Session, row: tables.ImageLogin, kind: str, actor: str, now: float) -> None:
    data = {"selector": row.selector, "username": row.username, "id": row.id}
    events.add(session, at=now, actor=actor, kind=kind, subject=row.host, data=data)
