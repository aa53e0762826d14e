"""What came of running a version's check somewhere."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One place, one run."""

    where: str
    """"device dev-1", "service vision (docker)"."""
    ok: bool
    text: str
    """What was measured, or what differed."""
    asked: bool = True
    """It ran there; False: it could not be asked, so nothing is known."""
