"""Amounts of CPU and memory in the one form in which the API server gives them back.

The server keeps "1000m" as "1" and "2048Mi" as "2Gi". What is sent in that form already can be
compared with what comes back.
"""

MILLI = 1000
UNIT = 1024


def cpu(cores: float) -> str:
    """Return cores: "2", or "250m"."""
    milli = max(1, round(cores * MILLI))
    return str(milli // MILLI) if milli % MILLI == 0 else f"{milli}m"


def memory(mebibytes: int) -> str:
    """Return memory: "512Mi", or "2Gi"."""
    amount, units = mebibytes, ["Mi", "Gi", "Ti"]
    while len(units) > 1 and amount % UNIT == 0:
        amount, units = amount // UNIT, units[1:]
    return f"{amount}{units[0]}"
