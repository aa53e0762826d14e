"""A bundle in memory: its ONNX session, its entry script, or both.

kind     session   entry
onnx     yes       if it has one: run() goes before the graph, or there is source() alone
python   no        yes: run() makes the outputs, which must fit the signature
ensemble no        no: each step is a model of its own
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime.bundle import index as bundle_index
from runtime.bundle import onnxfile
from runtime.bundle.index import Index, Signature, TensorSpec
from runtime.errors import InvalidError, ModelError
from runtime.inference import tensors
from runtime.inference.ensemble import Ensemble, Part
from runtime.inference.entry import Context, Entry
from runtime.inference.providers import CPU, precision_of
from runtime.inference.session import Session
from runtime.inference.tensors import Arrays

OUT_OF_MEMORY = "out of memory: raise resources.memory_mb, or send less"
PLATFORMS = {"onnx": "onnxruntime_onnx", "python": "python", "ensemble": "ensemble"}
"""Triton's names for what runs a kind of bundle."""


class Model:
    """What answers predictions. Inputs given to `predict` conform to `signature`."""

    def __init__(
        self,
        index: Index,
        graph: Session | Ensemble | None,
        entry: Entry | None,
        callers: int,
    ) -> None:
        """Answer with a script that has run(), else with the graph: one of the two is there."""
        self.signature: Signature = index.signature
        self.entry = entry
        scripted = entry is not None and entry.has_run
        self.callers = entry.callers if entry is not None and scripted else callers
        """How many may call `predict` at once: a script is not asked to be thread-safe."""
        self.output_names: tuple[str, ...] | None = (
            None
            if scripted and graph is not None
            else tuple(spec.name for spec in self.signature.outputs)
        )
        """What may be asked for; None: a script before a graph gives what it likes."""
        self.inline = not scripted and (graph is None or graph.inline)
        """Whether any thread may call `predict`, and it only computes."""
        self.streams = entry is not None and entry.streams
        self.batching = index.batching
        self.platform = PLATFORMS[index.kind]
        self._graph = graph

    @staticmethod
    def load(
        directory: Path,
        index: Index,
        load_step: "Callable[[Path, Index], Part] | None" = None,
        *,
        graph: Session | None = None,
        engines: Path | None = None,
    ) -> "Model":
        """Load the bundle in `directory`; raise ModelError if it is not what `index` says.

        `load_step` loads the steps of an ensemble; by default this does, all in one process.
        `graph` is the session that `index` was made from, if there is one: then it is used.
        `engines` is where TensorRT keeps what it builds of this model.
        """
        if index.kind not in PLATFORMS:
            raise ModelError(f"kind {index.kind} is no model: deploy it to devices")
        threads = max(1, math.ceil(index.resources.cpu or 1))
        if index.kind == "ensemble":
            return _ensemble(directory, index, load_step or Model.load)
        session = graph
        if session is None and index.kind != "python":
            session = _session(directory, index, threads, engines)
        entry = None
        if index.entry is not None:
            # Lazily: a graph alone needs no reader of requirements.
            from runtime.inference import environment  # noqa: PLC0415

            environment.prepare(directory, index)
            context = Context(directory, _predict(index, session), index)
            entry = Entry(directory / index.entry, context)
            if session is None:
                entry.function("run")
        return Model(index, session, entry, threads)

    def predict(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Return the named outputs, or all.

        Raises ModelError if the model fails, InvalidError if it gives no output of such a name.
        """
        try:
            if self.entry is None or not self.entry.has_run:
                assert self._graph is not None
                return self._graph.run(inputs, outputs)
            return self._chosen(self.entry.run(inputs), outputs)
        except MemoryError as error:
            raise ModelError(OUT_OF_MEMORY) from error

    def stream(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Iterator[Arrays]:
        """Yield the pieces of an answer, each as `predict` returns it.

        There is one, unless the script's run() yields.
        """
        if self.entry is None or not self.entry.has_run:
            yield self.predict(inputs, outputs)
            return
        try:
            for piece in self.entry.stream(inputs):
                yield self._chosen(piece, outputs)
        except MemoryError as error:
            raise ModelError(OUT_OF_MEMORY) from error

    def _chosen(self, given: Arrays, outputs: Sequence[str] | None) -> Arrays:
        """Return what was asked for of what a script gave, checked."""
        if self._graph is None:
            given = tensors.conform_outputs(self.signature, given)
        if outputs is None:
            return given
        for name in outputs:
            if name not in given:
                raise InvalidError("outputs", name, f"the model gives {', '.join(given)}")
        return {name: given[name] for name in outputs}

    def close(self) -> None:
        """Let go of threads and processes."""
        if isinstance(self._graph, Ensemble):
            self._graph.close()


def _ensemble(directory: Path, index: Index, load_step: Callable[[Path, Index], Part]) -> Model:
    """Return a model of models, each loaded from its own directory."""
    models: dict[str, Part] = {}
    try:
        for step in index.steps:
            place, own = directory / step.directory, bundle_index.step_index(index, step)
            try:
                models[step.name] = load_step(place, own)
            except ModelError as error:
                raise ModelError(f"step {step.name}: {error}") from error
    except ModelError:
        for model in models.values():
            model.close()
        raise
    return Model(
        index,
        Ensemble(bundle_index.wiring(index), models),
        None,
        min(model.callers for model in models.values()),
    )


def _session(directory: Path, index: Index, threads: int, engines: Path | None) -> Session:
    """Return the loaded graph; raise ModelError unless it is the one that was registered."""
    place = directory / index.model
    listed = {entry.path for entry in index.files}
    try:
        missing = [p for p in onnxfile.external_data(place, index.model) if p not in listed]
    except (OSError, InvalidError) as error:
        raise ModelError(f"{index.model} does not load: {error}") from error
    if missing:
        raise ModelError(f"{index.model} needs {missing[0]}, which is not in the bundle")
    session = Session(
        place,
        threads=threads,
        providers=index.providers or (CPU,),
        engines=engines,
        precision=precision_of(index.metadata),
    )
    _require_same(index, session.signature)
    return session


def _predict(index: Index, session: Session | None) -> Callable[[Mapping[str, Any]], Arrays]:
    """Return what a script calls as `context.predict`."""

    def predict(inputs: Mapping[str, Any]) -> Arrays:
        if session is None:
            raise ModelError(
                "context.predict runs ONNX models: for kind python load context.model in init()"
            )
        return session.run(tensors.conform(index.signature, inputs))

    return predict


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
