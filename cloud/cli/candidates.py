"""The options of `packhorse deploy` that are about a candidate, and how candidates are shown."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloud import references
from cloud.cli import words
from runtime.errors import InvalidError

if TYPE_CHECKING:
    from cloud import shapes

Candidate = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:VERSION]",
        help="Run this version beside it on each device, to be measured against it.",
    ),
]
Mode = Annotated[
    str | None,
    typer.Option(help="shadow: the candidate gets copies of inputs; canary: it answers some."),
]
Fraction = Annotated[
    float | None, typer.Option(help="Of inputs that the candidate is given; all if not said.")
]
Cpu = Annotated[
    float | None,
    typer.Option("--candidate-cpu", help="Cores that the candidate may use; 0.5 if not said."),
]
Memory = Annotated[
    int | None, typer.Option("--candidate-memory-mb", help="Memory of the candidate, MiB.")
]
GateRequests = Annotated[
    int | None, typer.Option(help="Answers to compare on each device; 500 if not said.")
]
GateAgreement = Annotated[
    float | None, typer.Option(help="Fraction of them that must be alike; 0.99 if not said.")
]
GateP95Ms = Annotated[float | None, typer.Option(help="Highest p95 of the candidate, ms.")]
GateP95Ratio = Annotated[
    float | None, typer.Option(help="Highest p95, as a multiple of the version's that answers.")
]
Promote = Annotated[
    str | None,
    typer.Option(help="by-gate: each device swaps by itself; by-hand: `deployments promote`."),
]


def wish(given: dict[str, Any]) -> dict[str, object] | None:
    """Return the candidate that these options ask for; raise InvalidError for rules of none."""
    rules = {key: given[key] for key in ("mode", "fraction", "promote")}
    rules |= {key: given[f"candidate_{key}"] for key in ("cpu", "memory_mb")}
    gate = {key: given[f"gate_{key}"] for key in ("requests", "agreement", "p95_ms", "p95_ratio")}
    rules = {key: value for key, value in rules.items() if value is not None}
    gate = {key: value for key, value in gate.items() if value is not None}
    if given["candidate"] is None:
        if rules or gate:
            first = next(iter(rules or gate))
            fix = "this is about a candidate: say which with --candidate NAME[:VERSION]"
            raise InvalidError(first, (rules or gate)[first], fix)
        return None
    name, version = words.reference(given["candidate"])
    number = None if version == references.LATEST else version
    return {"model": name, "version": number, "gate": gate, **rules}


def described(candidate: "shapes.Candidate") -> str:
    """Return a deployment's candidate and its rules, in one line."""
    gate = candidate.gate
    limits = [f"{gate.requests} answers", f"{gate.agreement:.0%} alike"]
    limits += [] if gate.p95_ms is None else [f"p95 of {gate.p95_ms:g} ms"]
    limits += [] if gate.p95_ratio is None else [f"p95 of {gate.p95_ratio:g} times"]
    return (
        f"candidate {candidate.model}:{candidate.version}: {candidate.mode} of"
        f" {candidate.fraction:.0%}, gate {', '.join(limits)}, promoted {candidate.promote}"
    )


def state(found: "shapes.CandidateState | None") -> str:
    """Return how far a candidate is on a device, in one line; empty: there is none."""
    if found is None:
        return ""
    parts = [f"{found.model}:{found.version} {found.mode}: {found.state}"]
    if found.requests:
        counted = f"{found.agreed} of {found.requests} alike"
        parts.append(counted + (f" ({found.errors} errors)" if found.errors else ""))
    if found.served:
        parts.append(f"{found.served} answered")
    if found.p95_ms is not None and found.own_p95_ms is not None:
        parts.append(f"p95 {found.p95_ms:.1f} ms, own {found.own_p95_ms:.1f} ms")
    if found.state == "failed":
        parts.append(found.reason)
    return "; ".join(parts)
