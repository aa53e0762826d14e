"""What is said of a served model to those who have never seen it: its columns, its OpenAPI."""

from collections.abc import Mapping

import msgspec

from runtime.serving import openapi, tables
from runtime.serving.served import Served
from runtime.serving.tables import Layout

_NONE: Mapping[str, str] = {}


def layout(served: Served) -> Layout:
    """Return the columns that a model takes, by the names that its bundle gives them."""
    # What is served need not come from a bundle, and has no metadata then.
    return tables.layout(served.signature, getattr(served.model, "metadata", _NONE))


def document(served: Served, *, only: bool, keyed: bool) -> bytes:
    """Return a model's OpenAPI description, as JSON.

    `only`: the server has no other, so that /score is this one's. `keyed`: it wants a key.
    """
    described = openapi.describe(
        served.name, served.version, layout(served), only=only, keyed=keyed
    )
    return msgspec.json.format(msgspec.json.encode(described), indent=1)
