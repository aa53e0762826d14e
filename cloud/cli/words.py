"""How options are written: NAME:VERSION, KEY=VALUE, 30s."""

import re
from collections.abc import Iterable, Mapping

from cloud import references
from runtime.errors import InvalidError

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SIZES |= {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_FACT = re.compile(r"([A-Za-z0-9_.-]+)\s*(>=|<=|!=|=|<|>)\s*(.+)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)")


def reference(text: str) -> tuple[str, str]:
    """Return name and version ("latest" if none is given) of NAME, NAME:VERSION or NAME@ALIAS."""
    found = references.parse(text)
    return found.name, found.version


def target(text: str) -> tuple[str, str | None]:
    """Return name and version as `reference`; None without one: the model itself is meant."""
    name, version = reference(text)
    return name, version if name != text else None


def version_number(version: str) -> int | None:
    """Return a version's number, or None for the newest."""
    if version == references.LATEST:
        return None
    number = references.number(version)
    if number is None:
        raise InvalidError("version", version, "write a number from 1 on, or 'latest'")
    return number


def duration(text: str, option: str) -> float:
    """Return seconds; 30, 30s, 5min, 2h and 1d are understood."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or found[2] not in _UNITS:
        raise InvalidError(option, text, "write a number and s, min, h or d, such as 30s")
    return float(found[1]) * _UNITS[found[2]]


def size(text: str, option: str) -> int:
    """Return bytes; 500000, 500kB, 20MB, 20MiB and 1.5GB are understood."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or found[2].lower() not in _SIZES:
        raise InvalidError(option, text, "write a number and kB, MB, GB or MiB, such as 20MB")
    return round(float(found[1]) * _SIZES[found[2].lower()])


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """Return KEY=VALUE texts as a dictionary; several may stand in one text, with commas."""
    made: dict[str, str] = {}
    for text in ",".join(texts).split(","):
        key, equals, value = text.strip().partition("=")
        if not equals and not text.strip():
            continue
        if not key or not equals:
            raise InvalidError(option, text, "write KEY=VALUE")
        made[key] = value
    return made


def facts(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return FACT=CONDITION texts: several of one fact are alternatives."""
    made: dict[str, tuple[str, ...]] = {}
    for text in texts:
        found = _FACT.fullmatch(text.strip())
        if found is None:
            fix = "write FACT=CONDITION, such as arch=aarch64 or memory_mb<=2048"
            raise InvalidError("--when", text, fix)
        fact, operator, value = found.groups()
        condition = value if operator == "=" else f"{operator}{value}"
        made[fact] = (*made.get(fact, ()), condition)
    return made


def conditions(when: Mapping[str, Iterable[str]]) -> str:
    """Return what a device must fulfil, for a person."""
    return ", ".join(f"{fact} {' or '.join(texts)}" for fact, texts in when.items())


def label_changes(texts: Iterable[str]) -> dict[str, str | None]:
    """Return KEY=VALUE (set) and KEY- (remove) texts as changes."""
    changes: dict[str, str | None] = {}
    for text in texts:
        if text.endswith("-") and "=" not in text and len(text) > 1:
            changes[text[:-1]] = None
        else:
            changes |= pairs([text], "label")
    if not changes:
        raise InvalidError("label", "", "write KEY=VALUE to set, KEY- to remove")
    return changes
