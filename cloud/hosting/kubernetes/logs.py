"""What replicas write, of all at once; replicas that come later too, and after restarts.

Each line comes with the time at which it was written. A log that is asked for again begins at the
second at which it broke off, so that lines that were given already are known by their times.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cloud.hosting.errors import RefusedError, TargetError
from cloud.hosting.kubernetes import feeds, kinds, names, pods, troubles
from cloud.hosting.kubernetes.cluster import Cluster
from cloud.hosting.kubernetes.errors import CredentialsError, DeniedError
from cloud.hosting.kubernetes.feeds import Feed, Tap
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.targets import LogLine

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""How often it is seen which replicas there are."""
MAX_FOLLOWED = 100
MAX_WAITING = 1000
MAX_LINE_CHARACTERS = 64 << 10
_STAMP = re.compile(
    r"(?P<second>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d+))?(?P<zone>Z|[+-]\d\d:\d\d) "
)
"""A node writes times in its own zone."""


@dataclass(frozen=True, order=True)
class At:
    """A time as logs have it: to the nanosecond, which a float cannot hold."""

    second: float
    nanos: int


def written(cluster: Cluster, selector: dict[str, str], tail: int) -> Iterator[LogLine]:
    """Yield the last lines of each replica, one replica after the other."""
    for pod in _found(cluster, selector):
        try:
            stream = cluster.log(pod, pods.SERVER, follow=False, tail=tail, since=None)
        except (DeniedError, CredentialsError):
            raise
        except RefusedError:  # it has not begun, or has just gone
            continue
        for line in stream:
            yield _line(pod, line)[0]


def followed(cluster: Cluster, selector: dict[str, str], tail: int) -> Tap[LogLine]:
    """Return the last lines of each replica, and then what any of them writes."""
    feed: Feed[LogLine] = Feed(MAX_WAITING)
    follower = _Follower(cluster, selector, tail, feed)
    follower.look()
    feeds.start("logs", follower.run)
    return Tap(feed)


def parse(line: bytes) -> tuple[At | None, str]:
    """Return a line's time and its text."""
    text = line.decode("utf-8", "replace")
    stamp = _STAMP.match(text)
    second = troubles.seconds(stamp["second"] + stamp["zone"]) if stamp else 0.0
    if stamp is None or not second:
        return None, text[:MAX_LINE_CHARACTERS]
    nanos = int((stamp["fraction"] or "")[:9].ljust(9, "0"))
    return At(second, nanos), text[stamp.end() :][:MAX_LINE_CHARACTERS]


class _Follower:
    """Sees which replicas there are, and keeps a thread reading each one's log."""

    def __init__(
        self, cluster: Cluster, selector: dict[str, str], tail: int, feed: Feed[LogLine]
    ) -> None:
        self._cluster, self._selector, self._tail, self._feed = cluster, selector, tail, feed
        self._reading: set[str] = set()
        self._last: dict[str, tuple[At, str]] = {}
        """Of each replica, the time of its last line, and how to ask for what came after."""

    def run(self) -> None:
        """Look for replicas until the feed is closed or the cluster does not answer."""
        try:
            while not self._feed.wait(LOOK_S):
                self.look()
        except TargetError as error:
            self._feed.finish(error)

    def look(self) -> None:
        """Begin to read each replica that is not being read."""
        there = _found(self._cluster, self._selector)
        self._last = {pod: last for pod, last in self._last.items() if pod in there}
        for pod in there:
            if pod not in self._reading and len(self._reading) < MAX_FOLLOWED:
                self._reading.add(pod)
                feeds.start(f"log-{pod}", lambda pod=pod: self._read(pod))  # type: ignore[misc]

    def _read(self, pod: str) -> None:
        try:
            self._pass_on(pod)
        except (DeniedError, CredentialsError) as error:
            self._feed.finish(error)
        except TargetError as error:  # not begun, restarting or gone: it is looked for again
            log.debug("log broke off", extra={"pod": pod, "error": str(error)})
        finally:
            self._reading.discard(pod)

    def _pass_on(self, pod: str) -> None:
        last, since = self._last.get(pod, (None, None))
        tail = self._tail if since is None else None
        stream = self._cluster.log(pod, pods.SERVER, follow=True, tail=tail, since=since)
        for raw in self._feed.reading(stream):
            line, at = _line(pod, raw)
            if last is not None and at is not None and at <= last:
                continue
            if at is not None:
                last = at
                self._last[pod] = at, raw.split(b" ", 1)[0].decode()
            if not self._feed.put(line):
                return


def _found(cluster: Cluster, selector: dict[str, str]) -> list[str]:
    found: list[Manifest] = cluster.find(kinds.POD, {**selector, names.COMPONENT: names.REPLICA})
    return sorted(map(kinds.name, found))


def _line(pod: str, raw: bytes) -> tuple[LogLine, At | None]:
    at, text = parse(raw)
    return LogLine(pod, text, at.second + at.nanos / 1e9 if at else None), at
