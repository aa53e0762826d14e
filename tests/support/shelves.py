"""A shelf of bundle directories that tests put versions on."""

from collections.abc import Sequence
from pathlib import Path

from runtime.bundle.build import build
from runtime.bundle.index import Index
from runtime.inference.session import Session
from tests.support import bundles


class Shelf:
    """DIRECTORY/NAME/VERSION; implements runtime.serving.repository.Shelf."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._versions: list[tuple[str, str]] = []

    def put(self, name: str, version: str, *, factor: float, passes: bool = True) -> Path:
        """Put a version there: each value it gives is `factor` times the sum of its input row."""
        place = self._directory / name / version
        bundles.write(place, name=name, factor=factor, passes=passes)
        self.put_directory(name, version)
        return place

    def put_directory(self, name: str, version: str) -> None:
        """Show what lies at NAME/VERSION."""
        if (name, version) not in self._versions:
            self._versions.append((name, version))

    def take(self, name: str, version: str) -> None:
        """Show a version no longer."""
        self._versions.remove((name, version))

    def versions(self) -> Sequence[tuple[str, str]]:
        """Return what is there."""
        return tuple(self._versions)

    def open(self, name: str, version: str) -> tuple[Path, Index]:
        """Return a bundle."""
        place = self._directory / name / version
        return place, build(place).index

    def graph(self, name: str, version: str) -> Session | None:  # noqa: ARG002 - the protocol's
        """Give nothing away: a bundle is opened without loading its graph."""
        return None
