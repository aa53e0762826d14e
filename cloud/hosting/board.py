"""What was seen last of each service and place, and when: for people, never for decisions.

In memory alone: after a restart nothing is known until it was looked at. What was seen long ago is
UNKNOWN, however well it was.
"""

import threading
from dataclasses import dataclass, field, replace

from cloud.hosting.targets import Condition, Observed, Place
from runtime.gateway.config import Status

STALE_S = 60.0
"""What was seen before that long says nothing of now."""


@dataclass(frozen=True)
class View:
    """What is known of a service."""

    observed: Observed | None = None
    """None: it was never seen."""
    statuses: tuple[Status, ...] = ()
    seen_at: float | None = None
    """When the target last said so, by the registry's clock."""
    trouble: str = ""
    """Why the target does not answer, or not do as it is told; "": it does."""
    waiting: str = ""
    """What its take-over waits for."""
    unreachable: bool = False

    def age_s(self, now: float) -> float | None:
        """Return how long ago it was seen; None: never."""
        return None if self.seen_at is None else max(0.0, now - self.seen_at)

    def condition(self, now: float) -> Condition:
        """Return how it is, as far as that is known."""
        age_s = self.age_s(now)
        if self.observed is None or age_s is None or age_s > STALE_S or self.unreachable:
            return Condition.UNKNOWN
        return self.observed.condition


@dataclass(frozen=True)
class PlaceView:
    """What is known of a place."""

    checked_at: float
    trouble: str = ""
    """Why it could not be asked; "": it could."""
    strays: tuple[str, ...] = ()
    """Services there that the registry does not know. They are left alone."""


@dataclass
class Board:
    """Holds the views; any thread may read and write."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _views: dict[str, View] = field(default_factory=dict)
    _places: dict[Place, PlaceView] = field(default_factory=dict)

    def view(self, service: str) -> View:
        """Return what is known of a service."""
        with self._lock:
            return self._views.get(service, View())

    def put(self, service: str, view: View) -> None:
        """Take over what was seen."""
        with self._lock:
            self._views[service] = view

    def fail(self, service: str, trouble: str, *, unreachable: bool) -> None:
        """Take over that it could not be seen; what was seen before stays, with its age."""
        with self._lock:
            known = self._views.get(service, View())
            self._views[service] = replace(known, trouble=trouble, unreachable=unreachable)

    def forget(self, service: str) -> None:
        """Forget a service that is gone."""
        with self._lock:
            self._views.pop(service, None)

    def put_place(self, place: Place, view: PlaceView) -> None:
        """Take over what was found at a place."""
        with self._lock:
            self._places[place] = view

    def places(self) -> dict[Place, PlaceView]:
        """Return what is known of places."""
        with self._lock:
            return dict(self._places)
