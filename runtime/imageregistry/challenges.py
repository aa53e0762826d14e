"""What an image registry answers to who has not said who it is. Pure (RFC 9110, 11.6.1).

Basic realm="images"
Bearer realm="https://auth.example/token",service="registry.example",scope="repository:team:pull"
"""

import re

import msgspec

_SCHEME = re.compile(r"\s*([A-Za-z]+)\s+")
_PARAMETER = re.compile(r'\s*([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')


class Challenge(msgspec.Struct, frozen=True):
    """How to say who we are."""

    scheme: str
    """basic or bearer."""
    parameters: dict[str, str]


def read(headers: list[str]) -> Challenge | None:
    """Return the challenge to meet, of several the bearer's; None: there is none that we know."""
    found = [made for made in map(_one, headers) if made is not None]
    return max(found, key=lambda each: each.scheme == "bearer", default=None)


def _one(header: str) -> Challenge | None:
    scheme = _SCHEME.match(header)
    if scheme is None or scheme[1].lower() not in {"basic", "bearer"}:
        return None
    parameters, place = {}, scheme.end()
    while (found := _PARAMETER.match(header, place)) is not None:
        value = found[3] if found[2] is None else re.sub(r"\\(.)", r"\1", found[2])
        parameters[found[1].lower()] = value
        place = found.end()
    return Challenge(scheme[1].lower(), parameters)
