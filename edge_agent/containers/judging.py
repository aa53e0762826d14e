"""Whether a container is good, is not yet, or has failed: decided from what was seen.

             image's or bundle's health command    the engine's word
good when    health over HTTP                      `Streak` of the agent's own questions
             neither                               it has run for `trial_s` without ending
"""

import enum
from collections.abc import Iterable

import msgspec

from runtime.bundle.containers import Container, Health
from runtime.containers.specs import ContainerSeen

MAX_SAID_CHARS = 300
_KILLED = 137


class Standing(enum.Enum):
    """How a container stands."""

    NOT_YET = "not yet"
    GOOD = "good"
    FAILED = "failed"


class Verdict(msgspec.Struct, frozen=True):
    """What is thought of one container."""

    standing: Standing
    text: str = ""
    """Of one that has failed: why. Of one that is not good yet: what is waited for."""
    final: bool = False
    """It broke a limit of its own bundle: it would again."""
    serves: bool = False
    """It does its work, as far as can be told: one without a health check does from its start."""


GOOD = Verdict(Standing.GOOD, serves=True)


class Streak(msgspec.Struct, frozen=True):
    """What the agent's questions over HTTP have brought so far."""

    started_at: float
    """Monotonic: when the container was started, or found."""
    next_at: float = 0.0
    failures: int = 0
    """In a row, without those that do not count."""
    succeeded: bool = False
    """Once, at least."""
    said: str = ""

    def noted(self, health: Health, trouble: str, now: float) -> "Streak":
        """Return it after an answer; `trouble` "": a good one."""
        next_at = now + health.interval_s
        if not trouble:
            return Streak(self.started_at, next_at, succeeded=True)
        early = not self.succeeded and now - self.started_at < health.start_s
        failures = 0 if early else self.failures + 1
        if early:
            next_at = min(next_at, now + 1.0)  # it may be good soon
        return Streak(self.started_at, next_at, failures, self.succeeded, trouble)


def judge(
    each: Container,
    seen: ContainerSeen | None,
    *,
    running_s: float,
    trial_s: float,
    streak: Streak | None,
) -> Verdict:
    """Return what is thought of a container that was started; `streak`: of one asked over HTTP."""
    if seen is None:
        return _failed(each, "was removed by somebody else")
    if seen.running:
        return _health(each, seen, running_s, trial_s, streak)
    return _stopped(each, seen)


def waiting(verdicts: Iterable[Verdict]) -> str:
    """Return what those wait for that are not good yet."""
    return "; ".join(one.text for one in verdicts if one.standing is Standing.NOT_YET)


def _stopped(each: Container, seen: ContainerSeen) -> Verdict:
    if seen.oom_killed:
        limit = "" if each.memory_mb is None else f" ({each.memory_mb} MiB: resources.memory_mb)"
        return _failed(each, f"was killed: it used more memory than it may{limit}", final=True)
    if seen.state in {"exited", "dead"}:
        if each.restart == "on-failure" and seen.exit_code == 0 and not seen.error:
            return GOOD
        return _failed(each, f"ended with code {_code(each, seen)}{_tail(seen.error)}")
    if seen.state == "paused":
        return Verdict(Standing.NOT_YET, f"container {each.name} was paused by somebody else")
    return Verdict(Standing.NOT_YET, f"container {each.name} is {seen.state}")


def _code(each: Container, seen: ContainerSeen) -> str:
    if seen.exit_code != _KILLED or each.memory_mb is None:
        return str(seen.exit_code)
    # Not every engine tells when it was one of several processes that outgrew the limit.
    return f"{_KILLED} (killed: perhaps resources.memory_mb {each.memory_mb} is too little)"


def _health(
    each: Container, seen: ContainerSeen, running_s: float, trial_s: float, streak: Streak | None
) -> Verdict:
    unhealthy, good, said = seen.health == "unhealthy", seen.health == "healthy", seen.health_said
    if streak is not None and each.health is not None:
        unhealthy = streak.failures >= each.health.retries
        good, said = streak.succeeded, streak.said
    elif not seen.health:
        good, said = running_s >= trial_s, f"it must run for {trial_s:g} s"
    if unhealthy:
        return _failed(each, f"is unhealthy{_tail(said)}")
    if good:
        return GOOD
    unasked = streak is None and not seen.health
    text = f"container {each.name} is not good yet{_tail(said)}"
    return Verdict(Standing.NOT_YET, text, serves=unasked)


def _failed(each: Container, text: str, *, final: bool = False) -> Verdict:
    return Verdict(Standing.FAILED, f"container {each.name} {text}", final)


def _tail(said: str) -> str:
    words = " ".join(said.split())[:MAX_SAID_CHARS]
    return f": {words}" if words else ""
