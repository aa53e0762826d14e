"""What goes wrong between us and a container engine.

PackhorseError
└── EngineError
    ├── EngineUnreachableError   it does not answer, or not in time    try again
    ├── EngineRefusedError       it answers no                         give up
    │   └── AbsentError          there is no such thing                give up
    └── PushError                an image registry did not take it     give up
"""

from runtime.errors import PackhorseError


class EngineError(PackhorseError):
    """A container engine did not do what it was asked."""


class EngineUnreachableError(EngineError):
    """The engine does not answer, or not in time."""

    retryable = True


class EngineRefusedError(EngineError):
    """The engine said no. `status` is the HTTP status of its answer, `said` its own words."""

    def __init__(self, what: str, *, status: int, said: str) -> None:
        super().__init__(f"{what}: the engine says: {said}")
        self.what, self.status, self.said = what, status, said


class AbsentError(EngineRefusedError):
    """There is no such image, container, network, volume or path."""


class PushError(EngineError):
    """An image registry did not take, or did not give, an image."""
