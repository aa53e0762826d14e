"""A copy of the traffic for a revision whose answers are compared, but never given.

    answer passed on ──► offer ──► queue, bounded ──► MIRRORING tasks ──► compare ──► counts
                           └─ full: dropped, counted

What is mirrored is taken off the queue only after the client has its answer, so the worst that a
slow or broken mirror can do is to be asked less.
"""

import asyncio
import logging
from collections import deque

from runtime.gateway import compare
from runtime.gateway.choice import sampled
from runtime.gateway.compare import Compared
from runtime.gateway.config import Config
from runtime.gateway.errors import GatewayError
from runtime.gateway.exchanges import Answered, Asked
from runtime.gateway.http_replica import HttpCarrier
from runtime.gateway.routes import Fleet
from runtime.gateway.stats import Stats
from runtime.gateway.upstream import Answer, Headers

log = logging.getLogger(__name__)

QUEUE_MOST = 256
QUEUE_BYTES = 64 * 1024 * 1024
MIRRORING = 4
"""Copies on their way at once."""
EXAMPLES = 5
"""Different answers that are logged for each configuration."""
THREAD_BYTES = 16 * 1024
"""Answers above this are compared beside the event loop."""
_SHADOW = b"x-packhorse-shadow: 1\r\n"


class Mirror:
    """Sends the copies."""

    def __init__(self, fleet: Fleet[HttpCarrier], stats: Stats) -> None:
        """Send nothing before something is offered."""
        self._fleet, self._stats = fleet, stats
        self._queue: deque[tuple[Config, Asked, Answered]] = deque()
        self._queued_bytes = 0
        self._seen = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._examples: tuple[int, int] = (0, 0)
        self.dropped = 0
        """Copies that were not sent, since the mirror does not keep up."""
        self.failed = 0
        """Copies that got no answer."""

    def offer(self, config: Config, asked: Asked, answered: Answered) -> None:
        """Queue a copy of a request if it is its turn; never waits."""
        if config.mirror is None or asked.method != "POST" or answered.revision == config.mirror:
            return
        self._seen += 1
        if not sampled(self._seen - 1, config.mirror_fraction):
            return
        size = len(asked.body) + len(answered.body)
        if len(self._queue) >= QUEUE_MOST or self._queued_bytes + size > QUEUE_BYTES:
            self.dropped += 1
            return
        self._queue.append((config, asked, answered))
        self._queued_bytes += size
        if len(self._tasks) < MIRRORING:
            task = asyncio.get_running_loop().create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Drop what is queued."""
        self._queue.clear()
        for task in self._tasks:
            task.cancel()

    async def _work(self) -> None:
        while self._queue:
            config, asked, answered = self._queue.popleft()
            self._queued_bytes -= len(asked.body) + len(answered.body)
            await self._copy(config, asked, answered)

    async def _copy(self, config: Config, asked: Asked, answered: Answered) -> None:
        assert config.mirror is not None
        answer = await self._ask(config.mirror, asked, config.timeout_s)
        if answer is None:
            self.failed += 1
            return
        given = Compared(answered.status, answered.body, _json_bytes(answered.headers))
        other = Compared(answer.status, answer.body, _json_bytes(answer.headers))
        if len(answered.body) > THREAD_BYTES:
            found = await asyncio.to_thread(compare.difference, given, other)
        else:
            found = compare.difference(given, other)
        counts = self._stats.of(config.mirror)
        counts.compared += 1
        if found is not None:
            counts.different += 1
            self._show(config, asked, found)

    async def _ask(self, revision: str, asked: Asked, timeout_s: float) -> Answer | None:
        """Return the mirror's answer; None if it has none, or one that is not passed on whole."""
        for _, group in self._fleet.groups((revision,)):
            replica = group.pick((), asked.number, ill=False)
            if replica is None:
                return None
            deadline = asyncio.get_running_loop().time() + timeout_s
            replica.in_hand += 1
            try:
                answer = await replica.carrier.send(
                    asked.line, (_SHADOW, asked.rest, asked.body), deadline
                )
            except GatewayError:
                return None
            finally:
                replica.in_hand -= 1
            if answer.stream is None:
                return answer
            answer.stream.close()
        return None

    def _show(self, config: Config, asked: Asked, found: str) -> None:
        generation, shown = self._examples
        shown = shown + 1 if generation == config.generation else 1
        self._examples = (config.generation, shown)
        if shown <= EXAMPLES:
            facts = {"revision": config.mirror, "request": asked.id, "difference": found}
            log.info("mirror answers differently", extra=facts)


def _json_bytes(headers: Headers) -> int | None:
    for name, value in headers:
        if name == b"inference-header-content-length" and value.isdigit():
            return int(value)
    return None
