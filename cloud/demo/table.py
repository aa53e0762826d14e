"""The demo's result, for a newcomer to read. What a program reads is `Outcome.plain`."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cloud.demo.score import Score
from runtime.wording import counted


@dataclass(frozen=True)
class Update:
    """What the update cost one device, as it counted itself."""

    received_bytes: int
    whole_bytes: int
    """Without deltas."""

    @property
    def saved(self) -> float:
        """The share of the bytes that did not travel."""
        return 1 - self.received_bytes / self.whole_bytes if self.whole_bytes else 0.0


@dataclass(frozen=True)
class Traffic:
    """Bytes that moved, and what they would have been."""

    bundles_bytes: int
    """Of the models' files, as every device together downloaded them."""
    updates: dict[str, Update]
    """The update to version 2 of digits, by device; part of the above."""
    telemetry_bytes: int
    """Of the batches, as they travelled."""
    telemetry_as_json_bytes: int
    """Of the same records, one JSON message each."""


@dataclass(frozen=True)
class Outcome:
    """All that the demo found out."""

    devices: tuple[str, ...]
    deployments: tuple[str, ...]
    score: Score
    requests: int
    failed_requests: int
    traffic: Traffic
    steps: dict[str, float]
    """What was done, and how many seconds it took."""
    seconds: float
    trouble: str = ""
    """What did not go as it should; empty: nothing."""
    addresses: dict[str, str] = field(default_factory=dict)
    """Where things are, if they are left running."""

    @property
    def complaints(self) -> tuple[str, ...]:
        """Everything that makes this run a failure."""
        digits = self.score.tallies.get("digits", {})
        better = 1 in digits and 2 in digits and digits[2].accuracy > digits[1].accuracy  # noqa: PLR2004 - versions
        found = [
            (bool(self.trouble), self.trouble),
            (self.score.lost > 0, f"{counted(self.score.lost, 'record')} lost"),
            (self.score.duplicated > 0, f"{counted(self.score.duplicated, 'record')} duplicated"),
            (self.failed_requests > 0, f"{counted(self.failed_requests, 'request')} failed"),
            (not better, "version 2 of digits is not better than version 1"),
        ]
        return tuple(text for wrong, text in found if wrong)

    @property
    def plain(self) -> dict[str, Any]:
        """The outcome as one JSON object."""
        return {
            "ok": not self.complaints,
            "complaints": list(self.complaints),
            "devices": list(self.devices),
            "deployments": list(self.deployments),
            "records": {
                "produced": self.score.produced,
                "stored": self.score.stored,
                "lost": self.score.lost,
                "duplicated": self.score.duplicated,
                "by_device": self.score.by_device,
            },
            "accuracy": _accuracy(self.score, "digits"),
            "models": {
                model: {"accuracy": _accuracy(self.score, model)} for model in self.score.tallies
            },
            "requests": {"sent": self.requests, "failed": self.failed_requests},
            "bytes": {
                "bundles": self.traffic.bundles_bytes,
                "update": {name: _plain(cost) for name, cost in self.traffic.updates.items()},
                "telemetry": self.traffic.telemetry_bytes,
                "telemetry_as_json": self.traffic.telemetry_as_json_bytes,
            },
            "steps": {name: round(seconds, 2) for name, seconds in self.steps.items()},
            "seconds": round(self.seconds, 2),
            **({"addresses": self.addresses} if self.addresses else {}),
        }


def _plain(update: Update) -> dict[str, float]:
    return {
        "received": update.received_bytes,
        "whole": update.whole_bytes,
        "saved": round(update.saved, 4),
    }


def _accuracy(score: Score, model: str) -> dict[str, float]:
    tallies = score.tallies.get(model, {})
    return {str(version): round(tally.accuracy, 4) for version, tally in tallies.items()}


def show(outcome: Outcome, console: Console) -> None:
    """Print the tables, and what to try next."""
    for title, table in (
        ("How good each version is, from the telemetry in the registry", _models(outcome.score)),
        ("What the update to version 2 cost, as a delta to version 1", _updates(outcome)),
        ("What became of the predictions", _records(outcome)),
        (f"Time: {outcome.seconds:.1f} s in all", _times(outcome)),
    ):
        console.print(Text(f"\n{title}", "bold"))
        console.print(table)
    if outcome.complaints:
        console.print(Text("Not as it should be: " + "; ".join(outcome.complaints), "bold red"))
    console.print(Text("\nWhat to try next", "bold"))
    # Not in a box and not wrapped: these are to be copied.
    console.print(_next(outcome), soft_wrap=True, markup=False, highlight=False)


def _models(score: Score) -> Table:
    table = Table()
    for name, justify in (("Model", "left"), ("Version", "right"), ("Right", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type] # literals in a tuple
    table.add_column("Accuracy", justify="right", style="bold green")
    for model, versions in score.tallies.items():
        for version, tally in versions.items():
            share = f"{tally.accuracy:.1%}" if tally.known else "-"
            table.add_row(model, str(version), f"{tally.right} of {tally.known}", share)
    return table


def _updates(outcome: Outcome) -> Table:
    table = Table()
    for name in ("Device", "Downloaded", "Without a delta", "Saved"):
        table.add_column(name, justify="left" if name == "Device" else "right")
    for device, cost in outcome.traffic.updates.items():
        received, whole = (f"{n / 1024:.1f} KiB" for n in (cost.received_bytes, cost.whole_bytes))
        table.add_row(device, received, whole, f"{cost.saved:.0%}")
    return table


def _records(outcome: Outcome) -> Table:
    score, traffic = outcome.score, outcome.traffic
    table = Table(show_header=False)
    ratio = traffic.telemetry_bytes / max(1, traffic.telemetry_as_json_bytes)
    devices = ", ".join(f"{name}: {count}" for name, count in score.by_device.items())
    for name, value in (
        ("Predictions made on devices", f"{score.produced}"),
        ("Records stored in the registry", f"{score.stored}"),
        ("... by device", devices),
        ("Lost", f"{score.lost}"),
        ("Duplicated", f"{score.duplicated}"),
        (
            "Of these, asked for by an application",
            f"{outcome.requests}, {outcome.failed_requests} failed",
        ),
        ("Models downloaded, all devices", f"{traffic.bundles_bytes / 1024:.0f} KiB"),
        (
            "Telemetry sent",
            f"{traffic.telemetry_bytes / 1024:.0f} KiB ({ratio:.0%} of one JSON message each)",
        ),
    ):
        table.add_row(name, value)
    return table


def _times(outcome: Outcome) -> Table:
    table = Table(show_header=False)
    for name, seconds in outcome.steps.items():
        table.add_row(name, f"{seconds:.1f} s")
    return table


def _next(outcome: Outcome) -> str:
    found = outcome.addresses or {
        "play with it": "packhorse demo --keep",
        "do it by hand": "examples/01_first_model/README.md",
        "how it works": "docs/architecture.md",
    }
    width = max(len(name) for name in found)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in found.items())
