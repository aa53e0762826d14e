"""What takes trust in the publisher, and who gives it.

    entry-script    Python in the bundle, which runs as the worker's user: an entry, its wheels
    pickle          a file that runs what it likes when it is loaded: pickle, joblib, torch, object
                    arrays. Who allows it allows entry scripts too, for nothing else loads it

The registry refuses at registration what its `allow` does not name, a device refuses it again
before anything of the bundle is loaded; by default both allow entry scripts and refuse pickles.
Pickles are found by name and by content; `runtime.inference.pickles` stops, in the worker, what is
hidden from that. What no bundle may do at all is refused by runtime.bundle.index and build.
"""

from collections.abc import Collection, Iterable
from typing import Literal, get_args

from runtime.bundle.index import Index
from runtime.errors import InvalidError

Need = Literal["entry-script", "pickle"]
NEEDS: tuple[Need, ...] = get_args(Need)
ENTRY_SCRIPT: Need = "entry-script"
PICKLE: Need = "pickle"
DEFAULT: tuple[Need, ...] = (ENTRY_SCRIPT,)
"""What is allowed where nobody says otherwise."""
NOTHING = "nothing"
"""How a command line or a variable writes an empty list."""


def scripts(index: Index) -> tuple[str, ...]:
    """Return the paths of a bundle's entry scripts: its own, those of an ensemble's steps."""
    own = () if index.entry is None else (index.entry,)
    steps = (f"{step.directory}/{script}" for step in index.steps for script in scripts(step.index))
    return (*own, *steps)


def needs(index: Index) -> tuple[str, ...]:
    """Return all that an index says its bundle needs, most harmless first."""
    script = (ENTRY_SCRIPT,) if scripts(index) else ()
    said = (*index.needs, *(need for step in index.steps for need in needs(step.index)))
    return tuple(dict.fromkeys((*script, *said)))


def granted(allow: Iterable[str]) -> frozenset[str]:
    """Return what a list allows, what it implies included."""
    given = frozenset(allow)
    return given | {ENTRY_SCRIPT} if PICKLE in given else given


def require(index: Index, pickles: Collection[str], allow: Collection[str], *, switch: str) -> None:
    """Raise InvalidError unless everything that a bundle needs is allowed.

    `pickles` are the paths of the files that were found to be pickles, whatever the index says.
    `switch` tells how to allow a need, which stands in it as {need}.
    """
    allowed = granted(allow)
    wanted = [*needs(index), *([PICKLE] if pickles else [])]
    for need in wanted:
        if need in allowed:
            continue
        if need not in NEEDS:
            raise InvalidError("needs", need, f"this Packhorse knows {', '.join(NEEDS)}: upgrade")
        field, why = _reason(index, sorted(pickles), need)
        raise InvalidError(field, need, f"{why}; refused unless you {switch.format(need=need)}")


def parse(values: Iterable[str], field: str) -> tuple[Need, ...]:
    """Return a list of needs that an operator wrote; raise InvalidError naming the unknown one."""
    found: list[Need] = []
    for value in values:
        known = [need for need in NEEDS if need == value]
        if not known and value != NOTHING:
            raise InvalidError(field, value, f"use {', '.join((*NEEDS, NOTHING))}")
        found += known
    return tuple(dict.fromkeys(found))


def _reason(index: Index, pickles: list[str], need: str) -> tuple[str, str]:
    if need == ENTRY_SCRIPT and scripts(index):
        return f"files[{scripts(index)[0]}]", "it is code of the publisher's"
    where = f"files[{pickles[0]}]" if pickles else "needs"
    return where, "loading it runs whatever its publisher put in"
