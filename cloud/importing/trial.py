"""Runs a bundle that we have just written, once, to learn what its model answers here."""

from pathlib import Path

from cloud.importing.drafts import ENTRY, Draft
from runtime.bundle import index as bundle_index
from runtime.bundle.index import Index, Signature
from runtime.errors import ModelError
from runtime.inference import tensors
from runtime.inference.entry import Context, Entry
from runtime.inference.session import Session
from runtime.inference.tensors import Arrays


def outputs_of(draft: Draft, signature: Signature, directory: Path, inputs: Arrays) -> Arrays:
    """Return what the model answers; raise ModelError if it cannot be run here.

    Nothing is held against `signature.outputs` if there are none.
    """
    if not draft.script:
        return Session(directory / draft.model).run(inputs)
    (directory / ENTRY).write_text(draft.script)
    index = Index(
        format=bundle_index.FORMAT,
        name=draft.name,
        kind=draft.kind,
        model=draft.model,
        files=(),
        signature=signature,
        entry=ENTRY,
    )
    answered = Entry(directory / ENTRY, Context(directory, _no_graph, index)).run(inputs)
    return tensors.conform_outputs(signature, answered) if signature.outputs else answered


def _no_graph(_inputs: object) -> Arrays:
    raise ModelError("there is no graph")
