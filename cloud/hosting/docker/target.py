"""Services on a container engine.

    host port ─► gateway ─► r1-1, r1-2, r2-1 …        all in a network of the service's own
                   └─ volume: gateway.json, applied.json, status-*.json

Labels say what belongs to which service; all else is read from the engine each time. What
leaves is first taken out of the gateway's configuration, and ends once that is in force.
Secrets are files in a volume, not variables that `docker inspect` shows; who may use the engine is
root on its machine and can read them all the same.
"""

import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Iterator
from urllib.parse import urlsplit

from cloud.hosting.docker import applied, gatewayasking, marks, reading
from cloud.hosting.docker.farewells import Farewells
from cloud.hosting.docker.following import Following
from cloud.hosting.docker.hands import Hands
from cloud.hosting.docker.inventory import Inventory, take
from cloud.hosting.errors import RefusedError, UnreachableError
from cloud.hosting.targets import LogLine, Observed, Question, Wish
from runtime.containers.engine import Engine
from runtime.containers.errors import EngineError, EngineUnreachableError
from runtime.containers.specs import ContainerSeen, Credentials, Event
from runtime.gateway.config import Status

log = logging.getLogger(__name__)

LAST_LINES = 20
_QUIET = ("exec_", "archive-path", "extract-to-dir", "top", "attach", "resize", "mount", "unmount")
"""Events that looking alone gives rise to."""


class DockerTarget:
    """One engine. Methods may be called from any thread; of one service, one `apply` at a time."""

    def __init__(self, engine: Engine, *, credentials: Credentials | None = None) -> None:
        """`credentials` are for the image registry; None: those of `docker login`."""
        self._engine = engine
        self._farewells = Farewells()
        self._hands = Hands(engine, self._farewells, credentials)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def apply(self, wish: Wish) -> None:
        """See Target. Images that the engine lacks are pulled, if they are an image registry's."""
        with self._locks[wish.service], _explained():
            troubles = self._hands.apply(wish)
        if troubles:
            raise RefusedError("; ".join(dict.fromkeys(troubles)))

    def observe(self, service: str) -> Observed:
        """See Target."""
        with _explained():
            there = self._take(service)
            logs = {
                each.id: self._engine.tail(each.id, LAST_LINES)
                for each in there.containers
                if _troubled(there, each)
            }
            return reading.observed(
                there, logs=logs, missing=self._missing(there), host=self._host()
            )

    def services(self) -> tuple[str, ...]:
        """See Target."""
        with _explained():
            containers = self._engine.containers({marks.SERVICE: ""})
            volumes = self._engine.volumes({marks.SERVICE: ""})
        found = {each.labels[marks.SERVICE] for each in containers}
        found |= {labels[marks.SERVICE] for labels in volumes.values()}
        return tuple(sorted(found))

    def statuses(self, service: str) -> tuple[Status, ...]:
        """See Target."""
        with _explained():
            serving = self._take(service).serving
        return tuple(applied.wish_generation(status) for _, status in serving)

    def ask(self, service: str, revision: int, question: Question) -> tuple[int, bytes]:
        """See Target. The port is asked that the engine publishes: it must be reachable from here.

        That of a remote engine is if the service has `bind` so.
        """
        with _explained():
            found = reading.endpoints(self._take(service), self._host())
        url = next((each for each in found if each.startswith("http://")), None)
        if url is None:
            raise UnreachableError(f"{service}: no gateway of it runs")
        return gatewayasking.ask(service, url, f"r{revision}", question)

    def logs(
        self, service: str, *, revision: int | None, follow: bool, tail: int
    ) -> Iterator[LogLine]:
        """See Target."""
        following = Following(self._engine, service, revision=revision, follow=follow, tail=tail)
        with _explained():
            yield from following.lines()

    def delete(self, service: str) -> None:
        """See Target. Requests in hand get the time that gateways take to drain."""
        with self._locks[service], _explained():
            self._hands.delete(service)

    def changes(self) -> Iterator[str]:
        """See Target. What happens from this call on is told."""
        with _explained():
            return _changed(self._engine.events({marks.SERVICE: ""}))

    def close(self) -> None:
        """See Target."""
        self._farewells.close()
        self._engine.close()

    def _take(self, service: str) -> Inventory:
        return take(self._engine, service, self._farewells.leaving(service))

    def _missing(self, there: Inventory) -> dict[str, str]:
        """Return the images that are needed and not here, and why."""
        told = there.applied
        if told is None:
            return {}
        short = [told.gateway_image] if not there.gateways else []
        for each in told.revisions:
            mine = [x for x in there.replicas if marks.revision_of(x) == each.number]
            if len(mine) < each.wanted:
                short.append(each.image)
        return {
            image: self._hands.pulling.get(image) or f"the engine has no image {image}"
            for image in dict.fromkeys(short)
            if self._engine.images.find(image) is None
        }

    def _host(self) -> str:
        """Return where the engine's machine can be reached."""
        parts = urlsplit(self._engine.url)
        return parts.hostname or "127.0.0.1" if parts.scheme in {"tcp", "ssh"} else "127.0.0.1"


def _troubled(there: Inventory, container: ContainerSeen) -> bool:
    """Say whether the last lines of a container may tell why it does not answer."""
    if not container.running or not marks.is_replica(container):
        return not container.running
    lost = container.restarts > 0 or container.health == "unhealthy"
    return lost and not reading.answers(there, container)


def _changed(events: Iterator[Event]) -> Iterator[str]:
    with _explained():
        for event in events:
            service = event.labels.get(marks.SERVICE)
            if service and not event.action.startswith(_QUIET):
                yield service


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn what an engine says into what targets say."""
    try:
        yield
    except EngineUnreachableError as error:
        raise UnreachableError(str(error)) from error
    except EngineError as error:
        raise RefusedError(str(error)) from error
