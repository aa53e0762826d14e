"""The modules that have had containers here: nothing of one is left behind when it is gone.

{data}/containers/modules/{module}    empty; there from its first start on, until what was left
                                      of the module has been removed
"""

from pathlib import Path

from runtime import files


class RememberedModules:
    """Of one agent; an agent that was killed in between finds them again."""

    def __init__(self, directory: Path) -> None:
        """Keep a note of each in a directory."""
        self._directory = directory

    def add(self, module: str) -> None:
        """Remember a module; raises OSError if the disk refuses."""
        path = files.make_directory(self._directory) / module
        if not path.exists():
            files.write_atomic(path, b"")

    def drop(self, module: str) -> None:
        """Forget one of which nothing is left."""
        (self._directory / module).unlink(missing_ok=True)

    def names(self) -> set[str]:
        """Return all of them."""
        return {path.name for path in self._directory.glob("*") if not path.name.startswith(".")}
