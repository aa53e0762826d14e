"""What can go wrong in the registry and its clients.

PackhorseError
├── NotFoundError        no such model, version, device, deployment or blob          final
├── ConflictError        the request does not fit the present state                  final
│   ├── StillUsedError   what shall be deleted is needed                             final
│   ├── TokenUsedError   an enrolment token works once                               final
│   ├── InFlightError    the same request (by its Idempotency-Key) is being done         try again
│   └── AnswerLostError  it was done before; its answer was too large to keep            final
├── KeyReusedError       an Idempotency-Key that came with another request           final
├── PreconditionError    If-Match: somebody else changed it meanwhile                read anew
├── UnsupportedMediaError  a body of a kind that the route does not read             final
├── NotAcceptableError   Accept allows nothing that the route can answer             final
├── BusyError            there are as many as there may be: streams, uploads         try again
├── SealError            the data directory's seal.key is another one                final
├── KeyRefusedError      no API key, or one that is not known                        final
│   └── TokenUnknownError  no such enrolment token                                   final
├── ForbiddenError       the API key's role does not allow it                        final
├── TokenExpiredError    the enrolment token's time is over                          final
├── UrlRefusedError      a download URL that was altered                             ask anew
│   └── UrlExpiredError  a download URL whose time is over                           ask anew
├── TooLargeError        a body above the limit                                      final
├── StoreError           the store that keeps blobs cannot be reached, or refuses    try again
├── MissingBlobsError    (an InvalidError) a bundle lists files that are not there   final
├── ForeignDatabaseError the database was written by a newer Packhorse               final
├── UnfinishedError      a restore was interrupted                                   run it again
├── DatabaseError        the database cannot be reached, or has no turn for us       try again
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


class ForbiddenError(PackhorseError):
    """Who asks is known, and may not do this; `needed` is the role that may."""

    def __init__(self, name: str, role: str, needed: str) -> None:
        super().__init__(
            f"key: {name} is a key for {role}s, and this is for {needed}s: use a key with the role "
            f"{needed} (an admin makes one: packhorse keys create NAME --role {needed})"
        )
        self.needed = needed


class TokenExpiredError(PackhorseError):
    """An enrolment token that was not used in time."""


class StillUsedError(ConflictError):
    """What shall be deleted is needed; `users` says by whom."""

    def __init__(self, what: str, users: tuple[str, ...]) -> None:
        shown = ", ".join(users[:20]) + (f" and {len(users) - 20} more" if users[20:] else "")
        super().__init__(f"{what}: it is used by {shown}: cancel, move or delete those first")
        self.users = users


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


class StoreError(PackhorseError):
    """The store that keeps blobs does not do what it should; nothing here is half done."""

    retryable = True


class MissingBlobsError(InvalidError):
    """A bundle lists files that were not uploaded; `missing` names their digests."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__(
            "files", f"{len(missing)} blobs missing", "upload each to /api/v1/blobs/{sha256} first"
        )
        self.missing = missing


class InFlightError(ConflictError):
    """The request with this Idempotency-Key is being done just now."""

    retryable = True


class AnswerLostError(ConflictError):
    """The request with this Idempotency-Key was done; what was answered is not known any more."""


class KeyReusedError(PackhorseError):
    """One Idempotency-Key came with two different requests."""


class PreconditionError(PackhorseError):
    """It is no longer what the client saw; `current` is its ETag's first part now."""

    def __init__(self, current: int) -> None:
        super().__init__(f"If-Match: it has changed, to revision {current}: read it again")
        self.current = current


class UnsupportedMediaError(PackhorseError):
    """A request body of a kind that is not read here."""


class NotAcceptableError(PackhorseError):
    """The client accepts nothing that could be answered."""


class BusyError(PackhorseError):
    """There are as many of these as there may be."""

    retryable = True


class SealError(PackhorseError):
    """What was sealed cannot be opened with this data directory's key."""


class ForeignDatabaseError(PackhorseError):
    """The database has a schema that this version does not know."""


class DatabaseError(PackhorseError):
    """The database cannot be used now; carries what its driver said."""

    retryable = True

    def __init__(self, why: str) -> None:
        super().__init__(f"database: {why.strip()}: see database_url, and whether its server runs")


class UnfinishedError(PackhorseError):
    """The data directory holds half of a backup."""


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
