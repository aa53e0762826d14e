"""Python files compiled by the image's own Python, without a network, before they become a layer.

The root of a service's container is read-only, so what is not compiled in the image is compiled
anew at each start, and that takes seconds. The compiled files are bound to their sources' paths,
not to their times, which layers do not have.
"""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cloud.hosting.errors import BuildError
from cloud.images import layers
from cloud.images.foundation import Base
from cloud.images.layers import Entry, Layer
from runtime.containers.engine import Engine
from runtime.containers.specs import ContainerSpec

_PATIENCE_S = 900.0
_COMPILE = ("-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash")


def compiled(
    engine: Engine, base: Base, entries: Sequence[Entry], prefix: str, target: Path
) -> Layer:
    """Write a layer of these files, with what they compile to, below `prefix` in the image."""
    spec = ContainerSpec(
        image=base.id,
        entrypoint=("python3", "-I"),
        command=(*_COMPILE, f"/{prefix}"),
        user="0:0",
        read_only=False,
    )
    with tempfile.TemporaryDirectory(prefix="packhorse-layer-", dir=target.parent) as scratch:
        plain = layers.write(
            Path(scratch) / "plain.tar", (_below(prefix, each) for each in entries)
        )
        container = engine.create("", spec)
        try:
            with plain.path.open("rb") as packed:
                engine.unpack(container, "/", packed)
            engine.start(container)
            # A package may hold files that are no Python of this version: it is not our business.
            engine.wait(container, timeout_s=_PATIENCE_S)
            brought = Path(scratch) / "compiled.tar"
            with (
                contextlib.closing(engine.pack(container, f"/{prefix}")) as chunks,
                brought.open("wb") as file,
            ):
                file.writelines(chunks)
        finally:
            engine.remove(container)
        parent = prefix.rpartition("/")[0]
        with brought.open("rb") as packed:
            layer = layers.normalised(packed, target, parent)
    if layer.size_bytes < plain.size_bytes:
        target.unlink()
        raise BuildError(f"{prefix}: the engine gave back less than it got: try again")
    return layer


def _below(prefix: str, entry: Entry) -> Entry:
    return Entry(f"{prefix}/{entry.path}", entry.size, entry.open, entry.link, entry.executable)
