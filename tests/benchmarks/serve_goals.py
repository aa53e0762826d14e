"""What the server is held to, as data, and how rounds become verdicts.

A ratio is formed within a round, where both sides ran minutes apart at most, and the median is
taken over the rounds: so a machine that gets slower for a while changes little.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from tests.benchmarks import serve_load
from tests.benchmarks.serve_models import IMAGE, TINY

Round = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Server to case to figure: round["ours"]["tiny json c8"]["req_s"]."""

OURS, ASGI, GRPC, ONNX = "ours", "asgi", "grpc", "onnx"
TRITON, KSERVE = "triton", "kserve"
PYTHONS = ("mlserver", "mlserver-w0", KSERVE)
CONNECTIONS = (1, 8, 32, 64)
BUSY = CONNECTIONS[1:]
PROCESS = "process"


@dataclasses.dataclass(frozen=True)
class Goal:
    """A figure of ours that shall be at least or at most so much, or so many times another's."""

    case: str
    figure: str
    bound: float
    others: tuple[str, ...] = ()
    """Against the best of these; none: the figure itself counts."""
    at_most: bool = False
    other_case: str | None = None
    """The others' case, if it is another one."""

    @property
    def against(self) -> str:
        """What it is compared to, for people."""
        return "best of " + ", ".join(self.others) if len(self.others) > 1 else "".join(self.others)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came of a goal."""

    goal: Goal
    ours: float
    other: float | None
    value: float
    """The ratio, or the figure itself."""
    ok: bool


def case(model: str, form: str, connections: int) -> str:
    """Name a case."""
    return f"{model} {form} c{connections}"


def mixed(form: str, model: str) -> str:
    """Name a case of two loads at once: the image model asked in this form, the tiny in JSON."""
    return f"mixed {form}: {model}"


def goals() -> list[Goal]:
    """Return all goals."""
    found = []
    for form in ("json", "binary"):
        for connections in BUSY:
            name = case(TINY, form, connections)
            found += [
                Goal(name, "req_s", 0.62, (ASGI,)),
                Goal(name, "req_s", 1.15, (TRITON,)),
                Goal(name, "req_s", 7.0, PYTHONS),
            ]
        found.append(Goal(case(TINY, form, 1), "p50_ms", 1.5, (ASGI,), at_most=True))
    found += [Goal(case(TINY, "grpc", n), "req_s", 1.5, (KSERVE,)) for n in BUSY]
    return [
        *found,
        Goal(case(IMAGE, "binary", 2), "req_s", 0.92, (ONNX,), other_case=IMAGE),
        Goal(case(IMAGE, "json", 1), "req_s", 0.40, (ONNX,), other_case=IMAGE),
        Goal(mixed("binary", TINY), "p50_ms", 0.6, at_most=True),
        Goal(mixed("binary", TINY), "p99_ms", 4.0, at_most=True),
        Goal(mixed("json", TINY), "p99_ms", 15.0, at_most=True),
        Goal(PROCESS, "ready_s", 0.8, at_most=True),
        Goal(PROCESS, "pss_mb", 120.0, at_most=True),
        # Two ticks of the kernel's clock in five seconds.
        Goal(PROCESS, "idle_cores", 0.0041, at_most=True),
        Goal("reload", "growth_mb", 5.0, at_most=True),
        Goal("gateway", "req_s", 3000.0),
        Goal("gateway", "added_p50_ms", 0.35, at_most=True),
    ]


def verdict(goal: Goal, rounds: Sequence[Round]) -> Verdict | None:
    """Judge a goal; None if one side was not measured."""
    pairs = [pair for pair in (_pair(goal, each) for each in rounds) if pair is not None]
    if not pairs:
        return None
    ours = serve_load.median([ours for ours, _ in pairs])
    if not goal.others:
        value, other = ours, None
    else:
        value = serve_load.median([ours / other for ours, other in pairs])
        other = serve_load.median([other for _, other in pairs])
    return Verdict(
        goal, ours, other, value, value <= goal.bound if goal.at_most else value >= goal.bound
    )


def _pair(goal: Goal, measured: Round) -> tuple[float, float] | None:
    """Return our figure and the best other one of a round; NaN for the other if there is none."""
    ours = measured.get(OURS, {}).get(goal.case, {}).get(goal.figure)
    if ours is None:
        return None
    if not goal.others:
        return ours, float("nan")
    cases = (measured.get(name, {}).get(goal.other_case or goal.case, {}) for name in goal.others)
    others = [figures[goal.figure] for figures in cases if figures.get(goal.figure) is not None]
    if not others:
        return None
    return ours, min(others) if goal.at_most else max(others)
