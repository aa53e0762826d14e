"""Whether a replica is asked. Pure; time is given (seconds, monotonic).

             probe well                       refused, sent away, or STRIKES failures
    NEW ────────────────────► WELL ──────────────────────────────────────────► ILL
     └── probe ill ──► ILL     ▲                                                 │ probe, with
                               └──────────────── probe well ─────────────────────┘ back-off

The well are asked first, then the new, and the ill only when nobody else is left: a try that may
fail is better than a refusal that does.
"""

import enum
from dataclasses import dataclass, replace


class State(enum.IntEnum):
    """The better, the smaller."""

    WELL = 0
    NEW = 1
    ILL = 2


STRIKES = 3
"""Failures in a row of requests that were sent."""
PROBE_WELL_S = 5.0
"""Between probes of the well, so that an idle gateway too knows who is there."""
PROBE_FIRST_S = 0.1
PROBE_MOST_S = 5.0


@dataclass(frozen=True)
class Health:
    """What is known of one replica."""

    state: State = State.NEW
    strikes: int = 0
    probes: int = 0
    """Probes in a row that found it ill."""
    probe_at: float = 0.0


def worked(health: Health) -> Health:
    """Return it after an answer. Only a probe makes the ill well, so that they are not hurried."""
    return replace(health, strikes=0) if health.strikes else health


def failed(health: Health, now: float, *, certain: bool) -> Health:
    """Return it after a try without an answer; `certain`: one is enough."""
    strikes = health.strikes + 1
    if health.state is State.ILL or (strikes < STRIKES and not certain):
        return replace(health, strikes=strikes)
    return Health(State.ILL, strikes, 0, now + PROBE_FIRST_S)


def probed(health: Health, now: float, *, well: bool) -> Health:
    """Return it after a probe."""
    if well:
        return Health(State.WELL, 0, 0, now + PROBE_WELL_S)
    wait_s = min(PROBE_MOST_S, PROBE_FIRST_S * 2 ** min(health.probes + 1, 10))
    return Health(State.ILL, health.strikes, health.probes + 1, now + wait_s)


def doubted(health: Health, now: float) -> Health:
    """Return it with a probe due at once: something about it has changed."""
    return replace(health, probe_at=now)
