"""Makes, starts and mends the replicas of a service, as planned."""

import dataclasses
import json
import logging
from collections.abc import Callable
from functools import partial

from cloud.hosting.docker import marks
from cloud.hosting.docker.plan import New, Plan
from cloud.hosting.errors import RefusedError
from cloud.hosting.targets import RevisionWish, Wish
from runtime.containers.engine import Engine, File
from runtime.containers.errors import EngineRefusedError
from runtime.containers.specs import ContainerSpec, Mount

log = logging.getLogger(__name__)

UID = 65532
"""Whom processes in our images belong to."""


class ReplicaHands:
    """Works on replicas alone. Raises EngineErrors."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def carry_out(self, wish: Wish, todo: Plan) -> list[str]:
        """Do what is planned; go on if the engine refuses something, and return what it said."""
        troubles: list[str] = []
        for dead in todo.dead:
            self._engine.remove(dead)
        for number in dict.fromkeys(each.revision.number for each in todo.new):
            revision = next(each for each in wish.revisions if each.number == number)
            if revision.secrets:
                self._trying(troubles, partial(self._write_secrets, wish, revision))
        for new in todo.new:
            self._trying(troubles, partial(self._make, new))
        network = marks.network(wish.service)
        for container, alias in todo.join:
            self._trying(troubles, partial(self._engine.join, network, container, (alias,)))
        for container in todo.unpause:
            self._engine.unpause(container)
        for container, revision in todo.limit:
            limits = revision.resources
            self._engine.limit(
                container, cpu=limits.cpu, memory_mb=limits.memory_mb, restart="always"
            )
        for container in todo.start:
            start(self._engine, container)
        return troubles

    def _make(self, new: New) -> None:
        image = self._engine.images.find(new.spec.image)
        if image is None:
            return  # it is observed, with the reason
        spec = new.spec
        if spec.command is not None:
            spec = dataclasses.replace(spec, command=(*spec.command, *image.command))
        container = self._engine.create(new.name, spec)
        start(self._engine, container)

    def _trying(self, troubles: list[str], act: Callable[[], None]) -> None:
        """Go on with the others if the engine refuses one."""
        try:
            act()
        except EngineRefusedError as error:
            troubles.append(str(error))

    def _write_secrets(self, wish: Wish, revision: RevisionWish) -> None:
        """Write a revision's secrets to their volume, readable by its replicas alone."""
        volume = marks.secrets_volume(wish.service, revision.number)
        mark = {marks.SERVICE: wish.service}
        require_ours("volume", volume, wish.service, self._engine.volume_labels(volume))
        self._engine.make_volume(volume, mark)
        if self._engine.images.find(revision.image) is None:
            return
        # Never started: it only makes the volume writable from here.
        spec = ContainerSpec(
            image=revision.image, labels=mark, mounts=(Mount(volume, marks.SECRETS_PATH),)
        )
        writer = self._engine.create("", spec)
        try:
            data = json.dumps(revision.secrets).encode()
            file = File(marks.SECRETS_NAME, data, mode=0o400, owner=UID)
            self._engine.write_files(writer, marks.SECRETS_PATH, (file,))
        finally:
            self._engine.remove(writer)


def start(engine: Engine, container: str) -> None:
    """Start a container; why it does not is in its state, and observed."""
    try:
        engine.start(container)
    except EngineRefusedError as error:
        log.warning("container not started", extra={"why": error.said})


def require_ours(kind: str, name: str, service: str, labels: dict[str, str] | None) -> None:
    """Raise RefusedError if a thing of this name is there and is not this service's."""
    if labels is not None and labels.get(marks.SERVICE) != service:
        raise RefusedError(
            f"{kind} {name} is there and is not Packhorse's: remove it, or name the service"
            " otherwise"
        )
