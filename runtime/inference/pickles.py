"""Refuses, in this process and for good, that a pickle makes anything but plain values.

Python tells its auditors of every class or function that an unpickler looks up; without those a
pickle can hold numbers and text, and run nothing. So a pickle is stopped wherever it comes from,
also where runtime.bundle.pickles did not see it.
"""

import sys
import threading

from runtime.errors import ModelError

_EVENT = "pickle.find_class"
_installing = threading.Lock()
_installed = False


def refuse(how_to_allow: str) -> None:
    """From now on raise ModelError when a pickle wants a class; `how_to_allow` ends its text."""
    global _installed  # noqa: PLW0603 - an audit hook is the process's, and cannot be taken back

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event == _EVENT:
            name = ".".join(str(argument) for argument in arguments)
            raise ModelError(f"a pickle wants {name}: pickles are refused; {how_to_allow}")

    with _installing:
        if not _installed:
            sys.addaudithook(audit)
            _installed = True
