"""Whether this device lets a bundle in, decided before anything of it is loaded.

What a device allows is its operator's word (`allow` in agent.toml), whatever a registry sends.
"""

from collections.abc import Collection
from pathlib import Path

from runtime.bundle import pickles, policy
from runtime.bundle.index import Index
from runtime.inference import pickles as unpickling

SWITCH = (
    'put allow = ["{need}"] into this device\'s agent.toml, restart its agent and run'
    " `packhorse deployments retry`"
)


def admit(directory: Path, index: Index, allow: Collection[str]) -> None:
    """Raise InvalidError naming the switch if a bundle needs what is not allowed here.

    From then on this process loads no pickle unless pickles are allowed. Files that no script
    could load are not looked at.
    """
    found: tuple[str, ...] = ()
    scripted = bool(policy.scripts(index))
    if scripted:
        # Files of variants for other hardware are listed, and not here.
        paths = (entry.path for entry in index.files if (directory / entry.path).is_file())
        found = pickles.find_below(directory, paths)
    policy.require(index, found, allow, switch=SWITCH)
    if scripted and policy.PICKLE not in policy.granted(allow):
        unpickling.refuse(SWITCH.format(need=policy.PICKLE))
