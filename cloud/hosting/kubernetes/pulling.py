"""How a cluster pulls images from a registry that asks who one is."""

import json
from dataclasses import dataclass
from pathlib import Path

from cloud.hosting.errors import RefusedError

MAX_CONFIG_BYTES = 1 << 20
"""What a Secret may hold."""


@dataclass(frozen=True)
class Pulling:
    """With what images are pulled."""

    config: str | None = None
    """A docker config.json, of which a Secret is made for each service. Confidential."""
    secrets: tuple[str, ...] = ()
    """Names of Secrets that are in the namespace already."""

    def __repr__(self) -> str:
        """Leave the passwords out."""
        return f"Pulling(config={'***' if self.config else None}, secrets={self.secrets!r})"


def of_registry(file: Path, registry: str, secrets: tuple[str, ...] = ()) -> Pulling:
    """Return what a docker config.json has for one image registry: the cluster gets no more of it.

    Raise RefusedError if it has nothing for it, or keeps it in a program that a cluster has not.
    """
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise RefusedError(f"{file}: larger than {MAX_CONFIG_BYTES} bytes: give a config.json")
        auths = dict(json.loads(file.read_bytes())["auths"])
    except OSError as error:
        raise RefusedError(f"{file}: {error.strerror}: run docker login {registry}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RefusedError(f"{file}: it has no auths: run docker login {registry}") from error
    entry = auths.get(registry) or auths.get(f"https://{registry}")
    if not isinstance(entry, dict) or not entry.keys() & {"auth", "identitytoken"}:
        raise RefusedError(
            f"{file}: no password for {registry}: log in without a credential helper, "
            "or name a Secret that is in the namespace"
        )
    return Pulling(json.dumps({"auths": {registry: entry}}), secrets)
