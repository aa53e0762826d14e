"""Whether a bundle may be loaded here, decided before anything of it is.

What is allowed is the operator's word, whatever a registry sends.
"""

from collections.abc import Collection
from pathlib import Path

from runtime.bundle import pickles, policy
from runtime.bundle.index import Index
from runtime.inference import pickles as unpickling


def require(directory: Path, index: Index, allow: Collection[str], switch: str) -> None:
    """Raise InvalidError naming the switch if a bundle needs what is not allowed here.

    `switch` says how to allow what is `{need}`ed. Files that no script could load are not looked
    at.
    """
    found: tuple[str, ...] = ()
    if policy.scripts(index):
        # Files of variants for other hardware are listed, and not here.
        paths = (entry.path for entry in index.files if (directory / entry.path).is_file())
        found = pickles.find_below(directory, paths)
    policy.require(index, found, allow, switch=switch)


def bind(index: Index, allow: Collection[str], switch: str) -> None:
    """From now on let scripts in this process load no pickle, unless pickles are allowed."""
    if policy.scripts(index) and policy.PICKLE not in policy.granted(allow):
        unpickling.refuse(switch.format(need=policy.PICKLE))
