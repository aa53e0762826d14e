"""What the shell offers for a name that is half typed. It never waits long, nor complains."""

import itertools
import re

from runtime.errors import PackhorseError

TIMEOUT_S = 1.0
MOST = 50
_PLAIN = re.compile(r"[a-z0-9-]*")


def models(incomplete: str) -> list[str]:
    """Return names of models that begin so, or behind NAME: or NAME@ the aliases of one."""
    from cloud.cli import login
    from cloud.client import Client

    parts = re.split("([:@])", incomplete, maxsplit=1)
    if not all(_PLAIN.fullmatch(part) for part in (parts[0], parts[-1])):
        return []
    try:
        known = login.current()
        with Client(known.url, known.key, known.ca, timeout_s=TIMEOUT_S, attempts=1) as registry:
            if len(parts) > 1:
                name, mark, begun = parts
                found = [f"{name}{mark}{each.name}" for each in registry.aliases(name)]
                return [each for each in found if each.startswith(f"{name}{mark}{begun}")]
            query = f"name ~ {parts[0]}" if parts[0] else None
            names = (each.name for each in registry.models(query))
            begins = (name for name in names if name.startswith(parts[0]))
            return list(itertools.islice(begins, MOST))
    except (PackhorseError, OSError):
        return []


def services(incomplete: str) -> list[str]:
    """Return names of services that begin so."""
    from cloud.cli import login
    from cloud.client import Client

    try:
        known = login.current()
        with Client(known.url, known.key, known.ca, timeout_s=TIMEOUT_S, attempts=1) as registry:
            names = (each.name for each in registry.services())
            return list(itertools.islice((n for n in names if n.startswith(incomplete)), MOST))
    except (PackhorseError, OSError):
        return []
