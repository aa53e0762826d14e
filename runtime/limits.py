"""What the system lets a process have."""

import resource

MAX_FILES = 65_536


def raise_files(most: int = MAX_FILES) -> None:
    """Let this process open so many files, or as many as the system allows it."""
    now, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if now != resource.RLIM_INFINITY and now < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
