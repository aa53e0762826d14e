"""What the module is called that a candidate runs as."""

SUFFIX = "~candidate"
"""No module that can be asked for has it: desired.py takes a-z, 0-9 and '-' alone."""


def is_trial(name: str) -> bool:
    """Say whether a module is a candidate of another one."""
    return name.endswith(SUFFIX)


def of(module: str) -> str:
    """Return the module that a module's candidate runs as."""
    return f"{module}{SUFFIX}"


def parent(trial: str) -> str:
    """Return the module that a candidate belongs to."""
    return trial.removesuffix(SUFFIX)
