"""What the inference server refuses.

PackhorseError
├── UnknownModelError   no such model or version here     give up
└── BusyError           the queue or its memory is full   try again
"""

from runtime.errors import PackhorseError


class UnknownModelError(PackhorseError):
    """This server has no such model, or not in that version."""

    def __init__(self, name: str, version: str | None, known: list[str]) -> None:
        asked = name if version is None else f"{name} version {version}"
        super().__init__(f"no model {asked} here: this server has {', '.join(known) or 'none'}")
        self.name, self.version = name, version


class BusyError(PackhorseError):
    """More is waiting than this server accepts."""

    retryable = True
