"""What can go wrong in the registry and its clients.

PackhorseError
├── NotFoundError        no such model, version, device, deployment or blob          final
├── ConflictError        the request does not fit the present state                  final
│   └── TokenUsedError   an enrolment token works once                               final
├── KeyRefusedError      no API key, or one that is not known                        final
│   └── TokenUnknownError  no such enrolment token                                   final
├── TokenExpiredError    the enrolment token's time is over                          final
├── UrlRefusedError      a download URL that was altered                             ask anew
│   └── UrlExpiredError  a download URL whose time is over                           ask anew
├── TooLargeError        a body above the limit                                      final
├── MissingBlobsError    (an InvalidError) a bundle lists files that are not there   final
├── ForeignDatabaseError the database was written by a newer Packhorse               final
├── ClientError          the registry answered with a problem (seen by its clients)  as it says
│   └── AbsentError      that problem is "not found"                                 final
├── UnreachableError     (a LinkError) the registry did not answer                   try again
├── LoginError           the command line does not know which registry to use        final
├── GaveUpError          a device will not run what was deployed, or it was cancelled final
└── WaitError            something did not happen in the time given for it           try again
"""

from collections.abc import Mapping
from typing import Any

from runtime.errors import InvalidError, LinkError, PackhorseError


class NotFoundError(PackhorseError):
    """There is no such thing; `kind` and `name` say which."""

    def __init__(self, kind: str, name: object, fix: str = "") -> None:
        super().__init__(f"{kind}: {name} does not exist" + (f": {fix}" if fix else ""))
        self.kind, self.name = kind, name


class ConflictError(PackhorseError):
    """The request does not fit what is there now."""


class KeyRefusedError(PackhorseError):
    """Who asks is not known."""


class TokenUnknownError(KeyRefusedError):
    """An enrolment token that was never made here."""


class TokenExpiredError(PackhorseError):
    """An enrolment token that was not used in time."""


class TokenUsedError(ConflictError):
    """An enrolment token that another enrolment used up."""


class UrlRefusedError(PackhorseError):
    """A download URL whose signature is not ours. A device asks for a new one."""

    retryable = True


class UrlExpiredError(UrlRefusedError):
    """A download URL whose time is over."""


class TooLargeError(PackhorseError):
    """A request body above `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"body: more than {limit_bytes} bytes: send less")
        self.limit_bytes = limit_bytes


class MissingBlobsError(InvalidError):
    """A bundle lists files that were not uploaded; `missing` names their digests."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__(
            "files", f"{len(missing)} blobs missing", "upload each to /api/v1/blobs/{sha256} first"
        )
        self.missing = missing


class ForeignDatabaseError(PackhorseError):
    """The database has a schema that this version does not know."""


class ClientError(PackhorseError):
    """The registry refused; carries its problem (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or f"HTTP {status}"))
        self.status, self.problem = status, problem
        self.retryable = bool(problem.get("retryable", False))


class AbsentError(ClientError):
    """The registry has no such thing."""


class UnreachableError(LinkError):
    """The registry did not answer."""


class LoginError(PackhorseError):
    """There is no login to use."""


class GaveUpError(PackhorseError):
    """What was waited for will not happen by itself."""


class WaitError(PackhorseError):
    """What was waited for did not happen in time; it may still."""

    retryable = True
