"""Whether this device lets a bundle in: its operator says so in agent.toml, as `allow`."""

from collections.abc import Collection
from pathlib import Path

from runtime.bundle.index import Index
from runtime.inference import admission

SWITCH = (
    'put allow = ["{need}"] into this device\'s agent.toml, restart its agent and run'
    " `packhorse deployments retry`"
)


def admit(directory: Path, index: Index, allow: Collection[str]) -> None:
    """Raise InvalidError naming the switch if a bundle needs what is not allowed here.

    From then on this process loads no pickle unless pickles are allowed.
    """
    admission.require(directory, index, allow, SWITCH)
    admission.bind(index, allow, SWITCH)
