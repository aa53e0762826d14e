"""What a gateway says of itself, also if it is newer than the registry: pure.

A gateway's image may be of another release than the registry for a while. What only one of them
knows is left out, instead of taking the gateway for silent.
"""

from typing import Any

import msgspec

from runtime.gateway.config import RevisionStats, Status


def read(data: bytes) -> Status:
    """Return a status; raise ValueError (msgspec's errors are such) if it is none."""
    found = _known(Status, msgspec.json.decode(data))
    revisions = found.get("revisions", [])
    if isinstance(revisions, list):
        found["revisions"] = [_known(RevisionStats, one) for one in revisions]
    return msgspec.convert(found, Status)


def _known(kind: type[msgspec.Struct], found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"{kind.__name__} is no object")  # noqa: TRY004 - it came from outside
    return {key: value for key, value in found.items() if key in kind.__struct_fields__}
