"""What is served: versions by name, and what a client may know of them."""

import functools

import msgspec

from runtime.bundle.index import TensorSpec
from runtime.serving.errors import NotReadyError, UnknownModelError
from runtime.serving.served import Served

SERVER_NAME = "packhorse"


class ServerMetadata(msgspec.Struct, frozen=True):
    """What this server is."""

    name: str
    version: str
    extensions: tuple[str, ...]


class ModelMetadata(msgspec.Struct, frozen=True):
    """What a model takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Catalogue:
    """Versions by name. It belongs to the event loop; `find` may be called from any thread."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str | None], Served] = {}
        """By name and version; by name and None what the name alone means."""
        self.pending: dict[tuple[str, str], str] = {}
        """What cannot be asked just now, and why; a repository's."""
        self.changes = 0
        """Grows whenever `find` may answer differently than before."""
        self.draining = False
        """No new work is welcome; what comes is answered all the same."""

    def put(self, served: Served) -> Served | None:
        """Serve this from now on, also by its name alone; return what it takes the place of."""
        replaced = self._found.pop((served.name, served.version), None)
        self._found[served.name, served.version] = self._found[served.name, None] = served
        self.changes += 1
        return replaced

    def withdraw(self, name: str, version: str) -> Served | None:
        """Stop serving a version to new requests; the newest of the others takes the name."""
        served = self._found.pop((name, version), None)
        if served is not None and self._found.get((name, None)) is served:
            others = [v for (n, v), _ in self._found.items() if n == name and v is not None]
            if others:
                self._found[(name, None)] = self._found[(name, others[-1])]
            else:
                del self._found[(name, None)]
        self.changes += 1
        return served

    def find(self, name: str, version: str | None = None) -> Served:
        """Return a model that can be asked; raise UnknownModelError or NotReadyError."""
        served = self._found.get((name, version))
        if served is None:
            raise self._missing(name, version)
        return served

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the versions of a model that can be asked, in the order in which they came."""
        return tuple(v for n, v in self._found if n == name and v is not None)

    @property
    def served(self) -> list[Served]:
        """All that can be asked."""
        return [served for (_, version), served in self._found.items() if version is not None]

    @property
    def live(self) -> bool:
        """Say whether the process works: it does, or it would not answer."""
        return True

    @property
    def ready(self) -> bool:
        """Say whether there is anything to ask, and new work is welcome."""
        return bool(self._found) and not self.draining

    def model_ready(self, name: str, version: str | None = None) -> bool:
        """Say whether a model may be asked; raise UnknownModelError if there is none."""
        try:
            self.find(name, version)
        except NotReadyError:
            return False
        return not self.draining

    def metadata(self) -> ServerMetadata:
        """Return what this server is."""
        return ServerMetadata(name=SERVER_NAME, version=_version(), extensions=())

    def model_metadata(self, name: str, version: str | None = None) -> ModelMetadata:
        """Return what a model takes and gives; raise UnknownModelError if there is none."""
        served = self.find(name, version)
        return ModelMetadata(
            name=name,
            versions=self.versions(name) if version is None else (version,),
            platform=served.platform,
            inputs=served.signature.inputs,
            outputs=served.signature.outputs,
        )

    def _missing(self, name: str, version: str | None) -> UnknownModelError | NotReadyError:
        for (pending, its), why in self.pending.items():
            if pending == name and version in {None, its}:
                return NotReadyError(f"{name} version {its} cannot be asked: {why}")
        known = [f"{served.name} version {served.version}" for served in self.served]
        return UnknownModelError(name, version, known)


@functools.cache
def _version() -> str:
    # Lazily: it brings a parser of mail, and is asked for seldom.
    import importlib.metadata  # noqa: PLC0415

    return importlib.metadata.version("packhorse")
