"""Ten links one after the other, each rebuilt, in a process in which nothing else happens.

LINK_SETTINGS_AS_JSON | python -m tests.support.link_leaks

Prints how many threads and descriptors there are more than after the first link.
"""

import dataclasses
import json
import sys
import threading
from pathlib import Path

from runtime.link import LinkSettings
from tests.support import brokers
from tests.support.links import Mailbox, linked


def as_json(settings: LinkSettings) -> str:
    """Return what `main` reads."""
    return json.dumps(dataclasses.asdict(settings), default=str)


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def main() -> None:
    told = json.load(sys.stdin)
    files = {name: Path(told[name]) for name in ("ca_file", "cert_file", "key_file")}
    settings = LinkSettings(**{**told, **files})
    with linked(settings, Mailbox()):
        pass
    threads, descriptors = threading.active_count(), _descriptors()
    for _ in range(10):
        with linked(settings, Mailbox()) as device:
            device.rebuild()
    brokers.eventually(lambda: threading.active_count() <= threads, "threads have ended")
    print(threading.active_count() - threads, _descriptors() - descriptors)  # noqa: T201 - its result


if __name__ == "__main__":
    main()
