"""How a version is named: NAME, NAME:3, NAME:latest, NAME:champion, NAME@champion. Pure."""

import re
from dataclasses import dataclass

from runtime import topics
from runtime.errors import InvalidError

LATEST = "latest"
MAX_NUMBER = 2**31 - 1

_ALIAS = re.compile(r"[a-z0-9-]{1,63}")


@dataclass(frozen=True)
class Reference:
    """A version of a model, by number, alias or as the newest."""

    name: str
    version: str = LATEST

    def __str__(self) -> str:
        """Write it as people do."""
        return f"{self.name}:{self.version}"


def parse(text: str, field: str = "model") -> Reference:
    """Return what NAME, NAME:VERSION or NAME@ALIAS means; raise InvalidError for anything else.

    Whether the name is one that a model can have is left open: there simply is no such model.
    """
    name, at, alias = text.partition("@")
    if at:
        if not name or ":" in name:
            raise InvalidError(field, text, "write NAME@ALIAS")
        return Reference(name, check_alias(alias, field))
    name, colon, version = text.partition(":")
    if not name or (colon and not version) or ":" in version:
        raise InvalidError(field, text, "write NAME, NAME:VERSION or NAME@ALIAS")
    return Reference(name, version or LATEST)


def number(version: str) -> int | None:
    """Return the number that a version is named by; None if it is named otherwise.

    Raises InvalidError for what is neither a number, nor "latest", nor a possible alias.
    """
    if version.isascii() and version.isdigit():
        if int(version) < 1:
            raise InvalidError("version", version, "numbers begin at 1")
        return int(version)
    if version != LATEST and not _ALIAS.fullmatch(version):
        fix = f"give a number from 1 on, an alias, or {LATEST!r}"
        raise InvalidError("version", version, fix)
    return None


def check_alias(alias: str, field: str = "alias") -> str:
    """Return a name that an alias may have; raise InvalidError for any other."""
    if not _ALIAS.fullmatch(alias) or alias.isdigit() or alias == LATEST:
        fix = f"use 1 to 63 of a-z, 0-9 and '-'; not a number, nor {LATEST!r}"
        raise InvalidError(field, alias, fix)
    return alias


def exact(text: str, field: str = "version") -> tuple[str, int]:
    """Return name and number of NAME:NUMBER; raise InvalidError for anything else."""
    found = parse(text, field)
    numbered = number(found.version)
    if numbered is None:
        raise InvalidError(field, text, "write NAME:NUMBER")
    topics.device_id(found.name, field)
    return found.name, numbered
