"""What the doctor has found: how bad it is, what it is, and what to do about it."""

import enum
from collections.abc import Sequence

import msgspec


class Level(enum.Enum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """It works now, or without this."""
    BROKEN = "broken"
    """Something that the device is for does not work."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    area: str
    """network, clock, certificate, disk, memory, containers, inference, python, service..."""
    level: Level
    text: str
    do: str = ""
    """One sentence; empty when all is well."""


def ok(area: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(area, Level.OK, text)


def warning(area: str, text: str, do: str) -> Finding:
    """Return what somebody should look at."""
    return Finding(area, Level.WARNING, text, do)


def broken(area: str, text: str, do: str) -> Finding:
    """Return what does not work."""
    return Finding(area, Level.BROKEN, text, do)


class Report(msgspec.Struct, frozen=True):
    """All findings, as `doctor --json` prints them."""

    healthy: bool
    """Nothing is broken."""
    findings: tuple[Finding, ...]


def report(found: Sequence[Finding]) -> Report:
    """Return findings as one report."""
    healthy = all(each.level is not Level.BROKEN for each in found)
    return Report(healthy, tuple(found))


def render(found: Report) -> str:
    """Return a report for people: one line for each finding, and below it what to do."""
    width = max(len(each.area) for each in found.findings)
    lines: list[str] = []
    for each in found.findings:
        lines.append(f"{each.level.value:8}{each.area:{width}}  {each.text}")
        if each.do:
            lines.append(f"{'':8}{'':{width}}  -> {each.do}")
    count = sum(each.level is Level.BROKEN for each in found.findings)
    warned = sum(each.level is Level.WARNING for each in found.findings)
    return "\n".join([*lines, f"{count} broken, {warned} to look at"])
