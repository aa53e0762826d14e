"""A request's way to an answer: try, and try again, until one comes or the time is over.

Both transports go this way; what a single try does is theirs. The table is looked at anew before
each try, so a request that began under an old configuration ends under the newest.
"""

import asyncio
import http
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from runtime.gateway import retries
from runtime.gateway.errors import LateError, RefusedError, TryError
from runtime.gateway.replicas import CarrierT, Group, Replica
from runtime.gateway.retries import Budget

AnswerT = TypeVar("AnswerT")
Groups = Callable[[], list[tuple[str, Group[CarrierT]]]]
"""Returns the revisions that may answer, by preference, with their replicas."""


class Purse:
    """The budget that all requests share."""

    def __init__(self) -> None:
        self.budget = Budget()
        self.retries: dict[str, int] = {failure.value: 0 for failure in retries.Failure}
        """Further tries so far, by why they were made."""


@dataclass
class Tries(Generic[CarrierT, AnswerT]):
    """The tries of one request."""

    groups: Groups[CarrierT]
    once: Callable[[Replica[CarrierT]], Awaitable[AnswerT]]
    """Tries one replica; raises TryError."""
    purse: Purse
    deadline: float
    """On the loop's clock."""
    revision: str = ""
    """Who answered; while nobody has, who was asked last."""
    _tried: list[Replica[CarrierT]] = field(default_factory=list)
    _rounds: int = 0
    _costly: int = 0

    async def answer(self, turn: int) -> tuple[AnswerT, Replica[CarrierT]]:
        """Return an answer and whose it is, with the request still in that one's hands.

        Raises RefusedError if nobody answers, and whatever else `once` raises.
        """
        self.purse.budget = self.purse.budget.earned()
        while True:
            found = self._next(turn)
            if found is None:
                await self._wait(TryError(retries.Failure.UNREACHED, "it has no replica"))
                continue
            self.revision, replica = found
            self._tried.append(replica)
            replica.in_hand += 1
            try:
                answer = await self.once(replica)
            except TryError as error:
                replica.in_hand -= 1
                replica.failed(error.failure)
                await self._wait(error)
            except LateError:
                replica.in_hand -= 1
                replica.failed(retries.Failure.SILENT)
                raise
            except BaseException:
                replica.in_hand -= 1
                raise
            else:
                replica.worked()
                return answer, replica

    def _next(self, turn: int) -> tuple[str, Replica[CarrierT]] | None:
        groups = self.groups()
        for ill in (False, True):
            for revision, group in groups:
                replica = group.pick(self._tried, turn, ill=ill)
                if replica is not None:
                    return revision, replica
        return None

    async def _wait(self, error: TryError) -> None:
        """Return when it is time for the next try."""
        left_s = self.deadline - asyncio.get_running_loop().time()
        self._costly += retries.costs(error.failure)
        untried = self._next(0) is not None
        wait_s = retries.pause(
            error.failure,
            untried=untried,
            rounds=self._rounds,
            costly=self._costly,
            budget=self.purse.budget,
            left_s=left_s,
        )
        if wait_s is None:
            raise _nobody(self.revision, error) from error
        self.purse.budget = self.purse.budget.spent(error.failure)
        self.purse.retries[error.failure.value] += 1
        if not untried:
            self._rounds += 1
            self._tried.clear()
            await asyncio.sleep(wait_s)


def _nobody(revision: str, error: TryError) -> RefusedError:
    status = http.HTTPStatus.SERVICE_UNAVAILABLE
    if retries.costs(error.failure):
        status = http.HTTPStatus.BAD_GATEWAY
    where = f"revision {revision}" if revision else "no revision"
    return RefusedError(status, f"{where} does not answer: {error}", retry_after_s=1.0)
