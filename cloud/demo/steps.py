"""What a person sees while the demo works: one line for each step, with its time; on stderr."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status


@dataclass
class Steps:
    """Tells a person what is going on, and how long it took."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)
    _status: Status | None = None

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Do a step that has a name."""
        start = time.monotonic()
        with self.console.status(f"{name} ...") as self._status:
            yield
        self.seconds[name] = time.monotonic() - start
        self.console.print(f"  {self.seconds[name]:5.1f} s  {name}", highlight=False)

    def tell(self, text: str) -> None:
        """Say how far the step is."""
        if self._status is not None:
            name = str(self._status.status).partition(" ... ")[0].removesuffix(" ...")
            self._status.update(f"{name} ... {text}")
