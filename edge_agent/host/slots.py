"""Which of two environments the agent runs in, and when it goes back: the launcher.

    {slots}/launcher.py        a copy of this file: neither slot can break it
           a/ b/               virtual environments
           state/slots.json    the truth: which slot is active, and whether it is on trial
           state/current       a link to the active one, for people

    idle ── update ──► trial(boots 0) ── each start ──► trial(boots + 1) ── proved ──► idle
                                             │
                                             └── MOST_BOOTS starts without a proof, or no link where
                                                 there was one ──► the other slot is active again,
                                                 and the reason is kept

The number of starts is durable before the new agent is started, so one that dies at once, hangs
until the watchdog kills it, or takes the power with it, uses them up all the same. Whatever cannot
be read or started leads to the slot that was proved last. Only the standard library is used here,
and nothing of ours: the file is run alone.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

SLOTS = ("a", "b")
MOST_BOOTS = 3
"""Starts that a slot on trial has; then the other one is active again."""
STATE, CURRENT = "state/slots.json", "state/current"
LAUNCH = "PACKHORSE_AGENT_LAUNCH"
"""Variable: the command line by which this agent was started, as JSON."""
PLACE = "PACKHORSE_AGENT_SLOTS"
"""Variable: the directory of the slots."""


class Slots(NamedTuple):
    """Which slot is active."""

    active: str = "a"
    trial: bool = False
    """The active one is new, and has not proved itself."""
    boots: int = 0
    """How often it was started since."""
    reason: str = ""
    """Why the last trial ended where it began; empty: it did not."""
    linked: bool = False
    """The agent before reached the registry when the trial began: the new one must too."""


def other(slot: str) -> str:
    """Return the other slot."""
    return SLOTS[1 - SLOTS.index(slot)]


def begun(state: Slots, *, linked: bool = False) -> Slots:
    """Return the state with the other slot on trial. One on trial cannot begin another."""
    return state if state.trial else Slots(other(state.active), trial=True, linked=linked)


def started(state: Slots, *, whole: bool) -> Slots:
    """Return what is so when the active slot is started now; `whole`: it can be started at all."""
    if not state.trial:
        return state
    if not whole:
        return failed(state, "it cannot be started")
    if state.boots >= MOST_BOOTS:
        return failed(state, f"it was started {state.boots} times and never proved itself")
    return state._replace(boots=state.boots + 1)


def proved(state: Slots) -> Slots:
    """Return what is so when the agent of the active slot is good."""
    return Slots(state.active) if state.trial else state


def failed(state: Slots, why: str) -> Slots:
    """Return the state with the slot active that was so before the trial."""
    return Slots(other(state.active), reason=f"slot {state.active}: {why}")


def read(directory: Path) -> Slots:
    """Return what is so; what cannot be read is as if nothing had ever been updated."""
    try:
        found: dict[str, Any] = json.loads((directory / STATE).read_bytes())
        state = Slots(
            str(found["active"]),
            bool(found["trial"]),
            int(found["boots"]),
            str(found["reason"]),
            bool(found.get("linked")),  # not written by earlier versions
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Slots(_linked(directory))
    return state if state.active in SLOTS else Slots(_linked(directory))


def _linked(directory: Path) -> str:
    """Return where the link leads."""
    try:
        name = (directory / CURRENT).readlink().name
    except OSError:
        return SLOTS[0]
    return name if name in SLOTS else SLOTS[0]


def write(directory: Path, state: Slots) -> None:
    """Make a state durable, then have the link follow it."""
    (directory / STATE).parent.mkdir(exist_ok=True)
    fresh = directory / f"{STATE}.tmp"
    with fresh.open("wb") as file:
        file.write(json.dumps(state._asdict()).encode())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(directory / STATE)
    _sync(directory)
    link(directory, state.active)


def link(directory: Path, slot: str) -> None:
    """Have the link lead to a slot, at once or not at all."""
    if (directory / CURRENT).is_symlink() and _linked(directory) == slot:
        return
    fresh = directory / f"{CURRENT}.tmp"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(f"../{slot}")
    fresh.replace(directory / CURRENT)
    _sync(directory)


def _sync(directory: Path) -> None:
    handle = os.open((directory / STATE).parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def python(directory: Path, slot: str) -> Path:
    """Return the Python of a slot."""
    return directory / slot / "bin" / "python"


def main(arguments: list[str]) -> NoReturn:
    """Become the agent of the slot that shall run: `launcher.py SLOTS run --data DIR`."""
    directory = Path(arguments[0]).absolute()
    before = read(directory)
    whole = os.access(python(directory, before.active), os.X_OK)
    state = started(before, whole=whole)
    if state != before:
        try:
            write(directory, state)
        except OSError as error:
            # A start that cannot be counted is none for a slot on trial.
            state = Slots(other(before.active)) if before.trial else before
            _say(f"slots: {error}: slot {state.active} is started")
    if state.reason and state.reason != before.reason:
        _say(f"update undone: {state.reason}: slot {state.active} is started")
    program = str(python(directory, state.active))
    again = [sys.executable, "-I", str(directory / "launcher.py"), *arguments]
    environment = {**os.environ, LAUNCH: json.dumps(again), PLACE: str(directory)}
    os.execve(program, [program, "-I", "-m", "edge_agent", *arguments[1:]], environment)  # noqa: S606 - ours


def _say(text: str) -> None:
    print(f"packhorse-agent launcher: {text}", file=sys.stderr, flush=True)  # noqa: T201 - no logging yet


if __name__ == "__main__":
    main(sys.argv[1:])
