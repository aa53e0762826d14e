"""What goes wrong between the registry and where services run.

PackhorseError
└── TargetError
    ├── UnreachableError   the engine or cluster does not answer     try again
    ├── RefusedError       it answers no: rights, quota, a bad name  give up
    └── BuildError         an image cannot be made                   give up
"""

from runtime.errors import PackhorseError


class TargetError(PackhorseError):
    """A target did not do what it was asked."""


class UnreachableError(TargetError):
    """The target does not answer, or not in time."""

    retryable = True


class RefusedError(TargetError):
    """The target will not do it, however often it is asked."""


class BuildError(TargetError):
    """The image cannot be made of this bundle and this base."""
