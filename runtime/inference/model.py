"""A bundle in memory: its ONNX session, and its entry script if it has one."""

import math
from collections.abc import Sequence
from pathlib import Path

from runtime.bundle.index import Index, Signature, TensorSpec
from runtime.errors import InvalidError, ModelError
from runtime.inference import tensors
from runtime.inference.entry import Context, Entry
from runtime.inference.session import Session
from runtime.inference.tensors import Arrays


class Model:
    """What answers predictions. Inputs given to `predict` conform to `signature`."""

    def __init__(self, session: Session, index: Index, entry: Entry | None, threads: int) -> None:
        self.signature: Signature = index.signature
        self.entry = entry
        self.callers = 1 if entry is not None and entry.has_run else threads
        """How many may call `predict` at once: a script is not asked to be thread-safe."""
        self.output_names: tuple[str, ...] | None = (
            None
            if entry is not None and entry.has_run
            else tuple(spec.name for spec in self.signature.outputs)
        )
        """What may be asked for; None: only known once the script ran."""
        self._session = session

    @staticmethod
    def load(directory: Path, index: Index) -> "Model":
        """Load the bundle in `directory`; raise ModelError if it is not what `index` says."""
        threads = max(1, math.ceil(index.resources.cpu or 1))
        session = Session(directory / index.model, threads=threads)
        _require_same(index, session.signature)
        entry = None
        if index.entry is not None:
            context = Context(
                directory=directory,
                predict=lambda inputs: session.run(tensors.conform(index.signature, inputs)),
                index=index,
            )
            entry = Entry(directory / index.entry, context)
        return Model(session, index, entry, threads)

    def predict(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Return the named outputs, or all.

        Raises ModelError if the model fails, InvalidError if it gives no output of such a name.
        """
        try:
            if self.entry is None or not self.entry.has_run:
                return self._session.run(inputs, outputs)
            given = self.entry.run(inputs)
        except MemoryError as error:
            raise ModelError("out of memory: raise resources.memory_mb, or send less") from error
        if outputs is None:
            return given
        for name in outputs:
            if name not in given:
                raise InvalidError("outputs", name, f"the model gives {', '.join(given)}")
        return {name: given[name] for name in outputs}


def _require_same(index: Index, here: Signature) -> None:
    """Raise ModelError unless the graph loaded is the one registered.

    Output shapes are compared where both sides know them: versions of onnxruntime infer more
    or less of them.
    """
    there = index.signature
    same = (
        here.inputs == there.inputs
        and len(here.outputs) == len(there.outputs)
        and all(_agree(a, b) for a, b in zip(here.outputs, there.outputs, strict=True))
    )
    if not same:
        raise ModelError(
            f"{index.model} is not the model that was registered: it has {_shown(here)},"
            f" the index says {_shown(there)}"
        )


def _agree(a: TensorSpec, b: TensorSpec) -> bool:
    return (
        (a.name, a.datatype, len(a.shape)) == (b.name, b.datatype, len(b.shape))
        and all(x == y or -1 in {x, y} for x, y in zip(a.shape, b.shape, strict=True))
    )  # fmt: skip


def _shown(signature: Signature) -> str:
    sides = (signature.inputs, signature.outputs)
    return " -> ".join(
        ", ".join(f"{spec.name}: {spec.datatype}{list(spec.shape)}" for spec in side)
        for side in sides
    )
