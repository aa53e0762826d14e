"""What became of every prediction, worked out from the records that the registry gives. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Key = tuple[str, str, str]
"""Device, model, and what was asked: "item:<name>" or "request:<id>". Each is asked once."""


@dataclass(frozen=True)
class Stored:
    """One record in the registry, as far as the score needs it."""

    device: str
    model: str
    version: int
    item: str | None
    request: str | None
    label: Any
    """What the model said; None if it failed."""

    @property
    def key(self) -> Key:
        """What this record answers."""
        mark = f"request:{self.request}" if self.item is None else f"item:{self.item}"
        return self.device, self.model, mark


@dataclass(frozen=True)
class Tally:
    """One version's answers to items whose truth is known."""

    right: int = 0
    known: int = 0

    @property
    def accuracy(self) -> float:
        """Fraction that was right; 0 if nothing is known."""
        return self.right / self.known if self.known else 0.0


@dataclass(frozen=True)
class Score:
    """The whole."""

    produced: int
    stored: int
    lost: int
    duplicated: int
    tallies: dict[str, dict[int, Tally]]
    """Model name to version to tally, in order."""
    by_device: dict[str, int]
    """Device to records."""


def score(produced: Iterable[Key], stored: Iterable[Stored], truth: Mapping[Key, Any]) -> Score:
    """Compare what was asked with what the registry has; `truth` knows the items' labels."""
    wanted, records = set(produced), list(stored)
    counted = Counter(record.key for record in records)
    marks: dict[str, dict[int, list[bool]]] = {}
    for record in records:
        answers = marks.setdefault(record.model, {}).setdefault(record.version, [])
        if record.key in truth:
            answers.append(record.label == truth[record.key])
    return Score(
        produced=len(wanted),
        stored=len(records),
        lost=len(wanted - counted.keys()),
        duplicated=sum(counted.values()) - len(counted),
        tallies={
            model: {
                version: Tally(sum(answers), len(answers))
                for version, answers in sorted(versions.items())
            }
            for model, versions in sorted(marks.items())
        },
        by_device=dict(sorted(Counter(record.device for record in records).items())),
    )
