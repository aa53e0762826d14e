"""Who may do what: three roles, each of which may do all that those before it may.

    viewer     look at everything that has no secret in it
    operator   register, deploy, label, enrol; read a device's logs, restart a module
    admin      keys, revocation, webhooks, logins, garbage; commands and archives of a device

What each remote operation wants is in OPERATIONS: what shows or restarts no more than a deployment
could is an operator's; what runs programs, or carries a device's files away, is an admin's.
"""

import enum
import re

from runtime import messages, operations


class Role(enum.Enum):
    """What a key may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        """Say whether this role may do what `needed` may."""
        return _ORDER.index(self) >= _ORDER.index(needed)


_ORDER = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)
_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
_ADMINS = re.compile(r"/api/v1/(keys|webhooks|image-logins|gc|devices/[^/]+/revoke)(/|$)")
"""What only admins may change; and keys, webhooks and logins are theirs to look at, too."""
_ADMINS_TO_SEE = re.compile(r"/api/v1/(keys|webhooks|image-logins)(/|$)")
_ASKED = re.compile(r"/api/v1/rollouts/plan$")
"""What is a POST only because it asks with a document."""

OPERATIONS = {
    messages.CHECK: Role.OPERATOR,
    operations.LOGS: Role.OPERATOR,
    operations.INFER: Role.OPERATOR,
    operations.RESTART: Role.OPERATOR,
    operations.SUPPORT: Role.ADMIN,
    operations.EXEC: Role.ADMIN,
    operations.UPDATE: Role.ADMIN,
    operations.LOGIN: Role.ADMIN,
}


def for_request(method: str, path: str) -> Role:
    """Return the role that a request needs at least; a command may need more."""
    if method in _LOOKING or _ASKED.match(path):
        return Role.ADMIN if _ADMINS_TO_SEE.match(path) else Role.VIEWER
    return Role.ADMIN if _ADMINS.match(path) else Role.OPERATOR


def for_command(kind: str, module: str) -> Role:
    """Return the role that a command to a device needs; restarting the agent is an admin's."""
    if kind == operations.RESTART and not module:
        return Role.ADMIN
    return OPERATIONS[kind]
