"""Commands to devices: what a device does now, once, on somebody's word.

Each needs a role (cloud.registry.roles) and leaves an event, whatever came of it. Who follows logs
asks again and again for what is behind the last answer: that is one event, the first.
"""

import base64
import threading
from collections import OrderedDict

from fastapi import APIRouter, Request

from cloud import shapes
from cloud.api.dependencies import CallerDep, ServicesDep, require
from cloud.api.routes import Route
from cloud.errors import ConflictError
from cloud.registry import devices, events, roles
from cloud.services import Services
from runtime import digests, operations, topics
from runtime.errors import InvalidError, PackhorseError
from runtime.messages import CommandResult

router = APIRouter(prefix="/devices", tags=["devices"], route_class=Route)

MAX_FOLLOWERS = 1000
MAX_TEXT_CHARS = 500
"""Of what came of a command, in the history."""


class Followers:
    """Where each who follows a device's logs will go on: an answer that was handed out here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    def goes_on(self, actor: str, device: str, body: shapes.NewCommand) -> bool:
        """Say whether this asks for what is behind the last answer to the same asker."""
        after = body.options.get("after", "")
        with self._lock:
            return bool(after) and self._next.get((actor, device, body.module)) == after

    def told(self, actor: str, device: str, module: str, following: str) -> None:
        """Take note of where an answer ended."""
        with self._lock:
            self._next[actor, device, module] = following
            self._next.move_to_end((actor, device, module))
            while len(self._next) > MAX_FOLLOWERS:
                self._next.popitem(last=False)


@router.post("/{device}/commands")
def command(
    *,
    device: str,
    body: shapes.NewCommand,
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
) -> shapes.CommandResult:
    """Have a device do something now, and return what came of it; 504 if it does not answer.

    `check`, `restart`, `infer` and `logs` are for operators; `support`, `exec`, `update`, and
    `restart` of the agent itself, for admins.
    """
    require(caller, roles.for_command(body.kind, body.module))
    operations.options(body.kind, body.options)
    if body.kind in {"check", operations.INFER} and not body.module:
        raise InvalidError("module", "", f"name the module that '{body.kind}' is about")
    with services.reading() as session:
        row = devices.get(session, device)
        if row.revoked_at is not None:
            raise ConflictError(f"device {device}: it was revoked, so it does not listen")
    actor, followers = events.key_actor(caller.name), _followers(request)
    quiet = body.kind == operations.LOGS and followers.goes_on(actor, device, body)
    try:
        result = _ask(services, device, body)
    except PackhorseError as error:
        if quiet:
            raise  # its first question is in the history; while a device is away it asks on
        _note(services, actor, device, body, ok=None, text=str(error))
        raise
    if not quiet:
        _note(services, actor, device, body, ok=result.ok, text=result.text)
    if following := result.facts.get("next"):
        followers.told(actor, device, body.module, following)
    data = base64.b64encode(result.data).decode("ascii")
    return shapes.CommandResult(ok=result.ok, text=result.text, facts=result.facts, data=data)


def _followers(request: Request) -> Followers:
    found: Followers = request.app.state.followers
    return found


def _ask(services: Services, device: str, body: shapes.NewCommand) -> CommandResult:
    bundle = None if body.bundle is None else digests.parse(body.bundle, "bundle")
    return services.ask_device(
        topics.device_id(device),
        body.kind,
        body.module,
        bundle,
        body.timeout_s,
        options=body.options,
    )


def _note(
    services: Services,
    actor: str,
    device: str,
    body: shapes.NewCommand,
    *,
    ok: bool | None,
    text: str,
) -> None:
    """Write down who asked for what, and what came of it; `ok` None: it is not known."""
    outcome = {True: "done", False: "refused", None: "unknown"}[ok]
    data = {
        "command": body.kind,
        "module": body.module,
        "options": dict(body.options),
        "outcome": outcome,
        "text": text[:MAX_TEXT_CHARS],
    }
    with services.transaction() as session:
        events.add(
            session,
            at=services.clock.now(),
            actor=actor,
            kind="device.commanded",
            subject=device,
            data=data,
        )
