"""Which services change: a watch for each kind of object, in one feed of names.

list ──version──► watch ──► names … ──► the server ends it (time-out) ──► watch from there
  ▲                 └─ 410, too old ─┐
  └── all names are told, for what happened in between is not known ──────┘
"""

import json
import logging

from cloud.hosting.errors import TargetError, UnreachableError
from cloud.hosting.kubernetes import errors, feeds, kinds, marks, names
from cloud.hosting.kubernetes.cluster import Cluster
from cloud.hosting.kubernetes.errors import ExpiredError
from cloud.hosting.kubernetes.feeds import Feed, Tap
from cloud.hosting.kubernetes.kinds import Kind, Manifest

log = logging.getLogger(__name__)

PAUSE_S = 1.0
"""Between two watches: a server that ends them at once is not asked without pause."""
MAX_WAITING = 10_000
OURS = {names.MANAGED_BY: names.MANAGER}


def changes(cluster: Cluster) -> Tap[str]:
    """Return the names of services of which something changes, from now on."""
    feed: Feed[str] = Feed(MAX_WAITING, distinct=True)
    begun = [(kind, *cluster.listed(kind, OURS, bare=True)) for kind in kinds.WATCHED]
    for kind, found, version in begun:
        watch = _Watch(cluster, kind, feed, found, version)
        feeds.start(f"watch-{kind.plural}", watch.run)
    return Tap(feed)


def event(line: bytes, kind: Kind) -> tuple[str, Manifest]:
    """Return type and object of a line of a watch; raise ExpiredError if it must begin anew."""
    try:
        read = json.loads(line)
        what, found = str(read["type"]), dict(read["object"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UnreachableError(f"watch {kind.plural}: {line[:80]!r} is no event") from error
    if what == "ERROR":
        body = json.dumps(found).encode()
        code = found.get("code")
        status = code if isinstance(code, int) else errors.HTTP_FAILURE
        raise errors.of_answer(status, body, doing=f"watch {kind.plural}", namespace="")
    return what, {"metadata": {}, **found, "kind": kind.name}


class _Watch:
    """The watch of one kind, in a thread of its own."""

    def __init__(
        self, cluster: Cluster, kind: Kind, feed: Feed[str], found: list[Manifest], version: str
    ) -> None:
        self._cluster, self._kind, self._feed = cluster, kind, feed
        self._version = version
        self._known = _services(found)

    def run(self) -> None:
        """Watch until somebody closes the feed or the link breaks, which ends the feed."""
        try:
            while not self._feed.wait(0):
                try:
                    self._watch()
                except ExpiredError:
                    self._list()
                self._feed.wait(PAUSE_S)
        except TargetError as error:
            if not self._feed.wait(0):
                log.info("watch ended", extra={"kind": self._kind.name, "error": str(error)})
            self._feed.finish()

    def _watch(self) -> None:
        stream = self._cluster.watch(self._kind, OURS, self._version)
        for line in self._feed.reading(stream):
            what, found = event(line, self._kind)
            self._version = str(found["metadata"].get("resourceVersion", self._version))
            service = marks.service(found)
            if what != "BOOKMARK" and service is not None:
                self._known.add(service)
                self._feed.put(service)

    def _list(self) -> None:
        found, self._version = self._cluster.listed(self._kind, OURS, bare=True)
        now = _services(found)
        for service in sorted(self._known | now):
            self._feed.put(service)
        self._known = now


def _services(found: list[Manifest]) -> set[str]:
    return {name for name in map(marks.service, found) if name is not None}
