"""A wall clock that is wrong, for real processes; their monotonic clock is left alone."""

import os
import time
from pathlib import Path

from tests.support import parts

SITE = Path(__file__).parent / "faketime"


def wrong(now: float) -> dict[str, str]:
    """Return the environment of a process for which it is `now` (seconds since 1970) just now."""
    parts.require("faketime")
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not libraries:
        parts.missing("libfaketime.so.1 is not below /usr/lib: apt-get install faketime")
    return {
        "LD_PRELOAD": str(libraries[0]),
        # An offset and not a time, at which every child of the process would begin anew.
        "FAKETIME": f"{now - time.time():+.0f}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(SITE), os.environ.get("PYTHONPATH")))),
    }


def right() -> dict[str, str]:
    """Return the environment that ends `wrong`."""
    return {"LD_PRELOAD": "", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
