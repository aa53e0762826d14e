"""What the inference server refuses.

PackhorseError
├── UnknownModelError   no such model or version here            give up
├── NotReadyError       it is being loaded, or on its way out    try again
├── BusyError           the queue or its memory is full          try again
├── DeadlineError       the answer came too late for who asked   try again
└── CodecError          the process for large JSON ended         try again

Each transport has one table from these, InvalidError and ModelError to its own codes.
"""

from runtime.errors import PackhorseError


class UnknownModelError(PackhorseError):
    """This server has no such model, or not in that version."""

    def __init__(self, name: str, version: str | None, known: list[str]) -> None:
        asked = name if version is None else f"{name} version {version}"
        super().__init__(f"no model {asked} here: this server has {', '.join(known) or 'none'}")
        self.name, self.version = name, version


class NotReadyError(PackhorseError):
    """What was asked for cannot be asked now; `retry_after_s` is when it may be worth a try."""

    retryable = True

    def __init__(self, text: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class BusyError(PackhorseError):
    """More is waiting than this server accepts; `retry_after_s` is when some may have gone."""

    retryable = True

    def __init__(self, text: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class DeadlineError(PackhorseError):
    """Whoever asked does not wait any longer."""

    retryable = True


class CodecError(PackhorseError):
    """The process that reads and writes large JSON ended over this request, twice."""

    retryable = True
