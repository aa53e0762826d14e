"""Targets and image makers, made from settings when they are first used.

The libraries that talk to engines and clusters are heavy, and most registries need one of them or
none: so each is imported here, lazily, and nowhere else above its own package.
"""

import threading
from collections.abc import Callable, Mapping

from cloud.hosting import engines
from cloud.hosting.errors import RefusedError, UnreachableError
from cloud.hosting.kubernetes import pulling
from cloud.hosting.kubernetes.pulling import Pulling
from cloud.hosting.targets import Place, Target
from cloud.settings import Settings
from runtime.containers.errors import EngineError, EngineUnreachableError
from runtime.errors import InvalidError

Opener = Callable[[Settings, Place], Target]


def _docker(settings: Settings, place: Place) -> Target:
    # 22 MB and 0.2 s, which a registry without services on Docker does not spend
    from cloud.hosting.docker.target import DockerTarget  # noqa: PLC0415
    from runtime.containers.engine import Engine  # noqa: PLC0415

    try:
        return DockerTarget(Engine(engines.address(settings, place.host)))
    except EngineUnreachableError as error:
        raise UnreachableError(str(error)) from error
    except (EngineError, InvalidError) as error:
        raise RefusedError(str(error)) from error


def _kubernetes(settings: Settings, place: Place) -> Target:
    from cloud.hosting.kubernetes.target import KubernetesTarget  # noqa: PLC0415 - as above

    return KubernetesTarget(place, kubeconfig=settings.kubeconfig, pulling=pulls(settings))


def pulls(settings: Settings) -> Pulling:
    """Return how clusters pull what this registry pushes; raise RefusedError if it cannot be."""
    secrets, config = settings.image_pull_secrets, settings.image_pull_config
    if config is None or settings.image_registry is None:
        return Pulling(secrets=secrets)
    return pulling.of_registry(config, settings.image_registry.partition("/")[0], secrets)


OPENERS: Mapping[str, Opener] = {"docker": _docker, "kubernetes": _kubernetes}


class Targets:
    """One target for each place, opened when first asked for. Any thread may ask."""

    def __init__(self, settings: Settings, openers: Mapping[str, Opener] = OPENERS) -> None:
        self._settings, self._openers = settings, openers
        self._lock = threading.Lock()
        self._open: dict[Place, Target] = {}

    def of(self, place: Place) -> Target:
        """Return the target at a place; raise TargetError if it cannot be opened."""
        with self._lock:
            found = self._open.get(place)
        if found is not None:
            return found
        opener = self._openers.get(place.kind)
        if opener is None:
            raise RefusedError(f"target: {place.kind} is not known here")
        # Not under the lock: one place that does not answer holds up no other.
        made = opener(self._settings, place)
        with self._lock:
            kept = self._open.setdefault(place, made)
        if kept is not made:
            made.close()
        return kept

    def close(self) -> None:
        """Let go of all connections."""
        with self._lock:
            opened, self._open = list(self._open.values()), {}
        for target in opened:
            target.close()
