"""The root of every error that Packhorse raises.

PackhorseError          says whether waiting helps (`retryable`) and how to mend it
├── InvalidError        what was given is not acceptable: field, value, fix     give up
├── IntegrityError      bytes arrived, but not the ones that were promised      try again
├── SpaceError          the disk has not the room that this needs               try again
├── InUseError          another process works in this directory                 give up
├── LinkError           the broker or the registry could not be reached         try again
└── ModelError          a model does not load, run or pass its check            give up

Packages add their own below these, in their `errors.py`. HTTP codes are given at the rim, by one
table in `cloud.api.errors`.
"""


class PackhorseError(Exception):
    """Something a person or a program can act on. The message says what happened and what to do."""

    retryable = False


class InvalidError(PackhorseError):
    """A value from outside is not acceptable.

    `field` is the path of the value ("check.inputs"), `value` what was found there, and `fix` one
    sentence on what would be accepted.
    """

    def __init__(self, field: str, value: object, fix: str) -> None:
        shown = repr(value)
        if len(shown) > 120:  # noqa: PLR2004 - a message, not a dump
            shown = shown[:117] + "..."
        super().__init__(f"{field}: {shown} is not accepted: {fix}")
        self.field, self.value, self.fix = field, value, fix


class IntegrityError(PackhorseError):
    """Bytes do not have the digest that was promised."""

    retryable = True

    def __init__(self, what: str, *, wanted: str, got: str) -> None:
        super().__init__(f"{what}: wanted {wanted}, got {got}")
        self.what, self.wanted, self.got = what, wanted, got


class SpaceError(PackhorseError):
    """The file system lacks the room for this."""

    retryable = True

    def __init__(self, path: str, *, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"disk: {path} needs {needed_bytes} bytes and has {free_bytes} free: make room"
        )
        self.path, self.needed_bytes, self.free_bytes = path, needed_bytes, free_bytes


class InUseError(PackhorseError):
    """Another process works in a data directory; `pid` is its number as text, if it is known."""

    def __init__(self, data: str, pid: str) -> None:
        super().__init__(
            f"data: {data} is in use by process {pid or '(unknown)'}: "
            "stop that, or give another --data"
        )
        self.data, self.pid = data, pid


class LinkError(PackhorseError):
    """The other side could not be reached, or did not answer in time."""

    retryable = True


class PartlyPublishedError(LinkError):
    """Of many messages the broker has only the first so many, as far as is known."""

    def __init__(self, reason: str, *, taken: int) -> None:
        """Say how many of the first it has."""
        super().__init__(f"not all published: {reason}")
        self.taken = taken


class ModelError(PackhorseError):
    """A model cannot be loaded, cannot run, or fails its own check."""
