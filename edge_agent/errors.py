"""Why the agent cannot do what it was asked.

PackhorseError
├── NotEnrolledError     this device has no identity yet        enrol it
├── NotRunningError      no agent has it                        start it
├── ControlError         the agent does not do what it was told see what it says
├── ImageError           an image cannot be pulled now          try again
│   └── NoImageError     the image registry does not have it    give up
└── HostError            this machine refuses to be changed     see what it says
"""

from pathlib import Path

from runtime.errors import PackhorseError


class NotEnrolledError(PackhorseError):
    """The device does not know its registry."""

    def __init__(self, data: Path) -> None:
        super().__init__(
            f"{data} has no identity: run `packhorse-agent enrol --url … --token … --data {data}`"
        )
        self.data = data


class NotRunningError(PackhorseError):
    """Nobody answers at the agent's or a module's socket."""

    retryable = True


class ControlError(PackhorseError):
    """The agent at work refused what a person told it, or ended before it answered."""


class ImageError(PackhorseError):
    """An image did not come from its image registry; it may another time."""

    retryable = True


class NoImageError(ImageError):
    """The image registry has no such image."""

    retryable = False


class HostError(PackhorseError):
    """This machine does not let itself be changed as asked."""
