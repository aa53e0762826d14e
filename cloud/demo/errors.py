"""Why a demo stops."""

from pathlib import Path

from runtime.errors import PackhorseError


class DemoError(PackhorseError):
    """A step did not end as it should; `log` is the file that says more."""

    def __init__(self, what: str, log: Path | None = None) -> None:
        super().__init__(what if log is None else f"{what}: read {log}")
        self.log = log
