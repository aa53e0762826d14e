"""What a release did, step by step, for people and for scripts. Pure."""

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class Outcome(enum.Enum):
    """How a step ended."""

    DONE = "done"
    UNCHANGED = "unchanged"
    """It was so already."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """A step before it failed."""


_MARKS = {
    Outcome.DONE: "✅",
    Outcome.UNCHANGED: "✅",
    Outcome.FAILED: "❌",
    Outcome.SKIPPED: "⏭️",
}


@dataclass(frozen=True)
class Step:
    """One thing that a release does."""

    name: str
    outcome: Outcome
    text: str
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For scripts."""


@dataclass(frozen=True)
class Report:
    """A whole release."""

    model: str
    """NAME:NUMBER; NAME alone if it was not registered."""
    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        """Whether all is true that was asked for."""
        return all(step.outcome in {Outcome.DONE, Outcome.UNCHANGED} for step in self.steps)

    @property
    def failed(self) -> Step | None:
        """The step that ended it."""
        return next((step for step in self.steps if step.outcome is Outcome.FAILED), None)


def markdown(report: Report) -> str:
    """Return a summary as CI systems show it."""
    verdict = "released" if report.ok else "**not released**"
    lines = [
        f"## {report.model}: {verdict}",
        "",
        "| step | | what | seconds |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {step.name} | {_MARKS[step.outcome]} {step.outcome.value} | {_cell(step.text)} |"
        f" {step.seconds:.1f} |"
        for step in report.steps
    ]
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> str:
    """Return the same for scripts."""
    plain = {
        "model": report.model,
        "ok": report.ok,
        "steps": [
            {
                "name": step.name,
                "outcome": step.outcome.value,
                "text": step.text,
                "seconds": round(step.seconds, 3),
                **({"facts": dict(step.facts)} if step.facts else {}),
            }
            for step in report.steps
        ],
    }
    return json.dumps(plain, indent=2)


def skipped(names: Sequence[str]) -> tuple[Step, ...]:
    """Return steps that are not done since one before them failed."""
    return tuple(Step(name, Outcome.SKIPPED, "a step before it failed") for name in names)


def _cell(text: str) -> str:
    """Return text that stays in its cell."""
    return " ".join(text.split()).replace("|", "\\|")
