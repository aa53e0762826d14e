"""Which addresses a webhook may reach: a registry must not be a way into its own network. Pure.

Names are looked up once, every address found is judged, and the connection goes to the one that
was judged: a name that answers differently the second time gains nothing.
"""

import ipaddress
import urllib.parse
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from runtime.errors import InvalidError

Network = IPv4Network | IPv6Network
MAX_URL_CHARS = 2048
_EMBEDDING = tuple(
    ipaddress.ip_network(each)
    for each in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
)
"""Ranges of IPv6 that lead to an IPv4 address, which may be private: NAT64, 6to4, Teredo."""


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return networks; raise InvalidError for one that is none."""
    return tuple(_network(text) for text in texts)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        fix = "write networks such as 10.0.0.0/8 or ::1/128"
        raise InvalidError("webhook_networks", text, fix) from error


def allowed(address: str, *, private: Sequence[Network]) -> bool:
    """Say whether an address may be reached: a public one, or one in a network that is allowed."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return _listed(found, private) or _public(found)


def listed(address: str, private: Sequence[Network]) -> bool:
    """Say whether an address is in one of these networks."""
    return _listed(ipaddress.ip_address(address.partition("%")[0]), private)


def check_url(url: str, *, private: Sequence[Network]) -> str:
    """Return a URL that messages may be sent to; raise InvalidError otherwise.

    https, or http where private networks are allowed. Its addresses are judged when it is used.
    """
    fix = "give an https:// URL without user and password"
    try:
        parts = urllib.parse.urlsplit(url)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    printable = url.isascii() and all("!" <= char <= "~" for char in url)
    if not known or not printable or len(url) > MAX_URL_CHARS or "@" in parts.netloc:
        # A password may stand in it.
        raise InvalidError("url", "(not shown)", fix)
    if parts.fragment:
        raise InvalidError("url", url, "leave out what follows #")
    if parts.scheme == "http" and not private:
        raise InvalidError("url", url, "use https://, or allow networks with webhook_networks")
    if _is_address(parts.hostname or "") and not allowed(parts.hostname or "", private=private):
        fix = "it is not a public address: allow its network with the setting webhook_networks"
        raise InvalidError("url", url, fix)
    return url


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _listed(found: IPv4Address | IPv6Address, private: Sequence[Network]) -> bool:
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in network for network in private)


def _public(found: IPv4Address | IPv6Address) -> bool:
    mapped = getattr(found, "ipv4_mapped", None) or found
    if any(mapped in network for network in _EMBEDDING):
        return False
    return mapped.is_global and not mapped.is_multicast and not mapped.is_reserved
