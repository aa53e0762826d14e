"""bundle.yaml: what an author writes about a model, read strictly.

Whatever is not understood is refused by name, with the nearest word that would be: a misspelt
`check` must not become a model without one. Specified in docs/specs/bundle.md.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from runtime.bundle import (
    checksource,
    containersource,
    ensemblesource,
    fields,
    names,
    strictyaml,
    variantsource,
)
from runtime.bundle.containers import Group, Pin
from runtime.bundle.ensemblesource import StepSource
from runtime.bundle.fields import Fields
from runtime.bundle.index import (
    Batching,
    Check,
    DataType,
    Kind,
    Resources,
    Signature,
    TensorSpec,
    Variant,
)
from runtime.errors import InvalidError

SOURCE_NAME = fields.DOCUMENT
MAX_SOURCE_BYTES = 64 * 1024
MAX_DIMENSIONS = 16
EXAMPLE = "name: my-model\nkind: onnx\nmodel: model.onnx\n"

_KINDS: tuple[Kind, ...] = get_args(Kind)
_DATATYPES: tuple[DataType, ...] = get_args(DataType)


@dataclass(frozen=True)
class Source:
    """A valid bundle.yaml. Paths are relative and stay in the directory; they may not exist."""

    name: str
    kind: Kind
    model: str
    """"": kind python without a model file."""
    entry: str | None
    signature: Signature | None
    """As the author says it; None: it is read from the graph, or from the check's arrays."""
    requirements: str
    """Path of a requirements file; "": there is none."""
    check: Check | None
    resources: Resources
    sources: tuple[str, ...]
    tags: dict[str, str]
    metadata: dict[str, str]
    card: str
    """Path of the model card; "": there is none."""
    description: str
    providers: tuple[str, ...]
    variants: tuple[Variant, ...]
    """Without the paths that each alone needs: the builder finds them."""
    steps: tuple[StepSource, ...]
    """Of kind ensemble."""
    outputs: dict[str, str]
    """Of kind ensemble: output to STEP.OUTPUT; {}: all that no step takes."""
    batching: Batching | None
    container: Group | None
    """Of kind container."""


def read_source(directory: Path, pin: Pin | None = None) -> Source:
    """Return what a directory's bundle.yaml says; `pin` names the digests of images by tag.

    Raises InvalidError naming the field that is missing, unknown or wrong.
    """
    path = directory / SOURCE_NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SOURCE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidError(
            SOURCE_NAME, str(directory), f"there is none; write one such as\n\n{EXAMPLE}"
        ) from error
    return parse_source(data, pin)


def parse_source(data: bytes, pin: Pin | None = None) -> Source:
    """Return what the bytes of a bundle.yaml say; raise InvalidError as read_source does."""
    if len(data) > MAX_SOURCE_BYTES:
        raise InvalidError(
            SOURCE_NAME, f"more than {MAX_SOURCE_BYTES} bytes", "keep data in files beside it"
        )
    top = Fields(strictyaml.load(data, SOURCE_NAME), "", _KEYS)
    kind = _kind(top.text("kind", required=True))
    container = containersource.read(top, kind, pin)
    return Source(
        name=names.require(top.text("name", required=True), "name"),
        kind=kind,
        model=top.path("model", required=kind == "onnx"),
        entry=_entry(top, kind),
        signature=_signature(top, kind),
        requirements=_requirements(top),
        check=checksource.read(top),
        resources=_resources(top),
        sources=top.texts("sources"),
        tags=_texts(top, "tags"),
        metadata=_texts(top, "metadata"),
        card=top.path("card"),
        description=top.text("description"),
        providers=top.texts("providers"),
        variants=variantsource.read(top, kind),
        steps=ensemblesource.steps(top, kind),
        outputs=ensemblesource.outputs(top),
        batching=_batching(top),
        container=container,
    )


_KEYS = (
    "name", "kind", "model", "entry", "signature", "requirements", "check", "resources",
    "sources", "tags", "metadata", "card", "description", "providers", "variants", "ensemble",
    "batching", *containersource.KEYS,
)  # fmt: skip


def _kind(kind: str) -> Kind:
    for known in _KINDS:
        if kind == known:
            return known
    raise InvalidError("kind", kind, f"write kind: {' or kind: '.join(_KINDS)}")


def _entry(top: Fields, kind: Kind) -> str | None:
    entry = top.path("entry")
    if kind == "ensemble" and (entry or "model" in top):
        raise InvalidError("entry", entry or None, "an ensemble has its steps': leave it out")
    if kind == "python" and not entry:
        raise InvalidError(
            "entry", None, "kind python needs a script with run(): write entry: score.py"
        )
    if entry and not entry.endswith(".py"):
        raise InvalidError("entry", entry, "name a Python file that ends in .py")
    return entry or None


def _signature(top: Fields, kind: Kind) -> Signature | None:
    if "signature" not in top:
        return None
    if kind != "python":
        raise InvalidError("signature", "…", "leave it out: it is read from the ONNX graphs")
    signature = top.fields("signature", ("inputs", "outputs"))
    return Signature(inputs=_tensors(signature, "inputs"), outputs=_tensors(signature, "outputs"))


def _tensors(signature: Fields, side: str) -> tuple[TensorSpec, ...]:
    specs = tuple(
        TensorSpec(
            name=tensor.text("name", required=True),
            datatype=_datatype(tensor),
            shape=_shape(tensor),
        )
        for tensor in signature.each(side, ("name", "datatype", "shape"))
    )
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise InvalidError(f"signature.{side}", names, "give each tensor its own name")
    return specs


def _datatype(tensor: Fields) -> DataType:
    text = tensor.text("datatype", required=True)
    for known in _DATATYPES:
        if text == known:
            return known
    near = difflib.get_close_matches(text.upper(), _DATATYPES, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InvalidError(tensor.field("datatype"), text, f"{hint}use one of {', '.join(_DATATYPES)}")


def _shape(tensor: Fields) -> tuple[int, ...]:
    shape = tensor.integers("shape")
    if len(shape) > MAX_DIMENSIONS or any(size < -1 for size in shape):
        raise InvalidError(
            tensor.field("shape"),
            list(shape),
            f"give at most {MAX_DIMENSIONS} sizes, -1 where any fits",
        )
    return shape


def _requirements(top: Fields) -> str:
    path = top.path("requirements")
    if path and "entry" not in top:
        raise InvalidError("requirements", path, "only an entry script imports packages: leave out")
    return path


def _resources(top: Fields) -> Resources:
    resources = top.fields("resources", ("memory_mb", "cpu", "timeout_s"))
    memory_mb = resources.number("memory_mb", above=0)
    if memory_mb is not None and not isinstance(memory_mb, int):
        raise InvalidError("resources.memory_mb", memory_mb, "give whole MiB")
    cpu = resources.number("cpu", above=0)
    timeout_s = resources.number("timeout_s", above=0)
    return Resources(
        memory_mb=memory_mb,
        cpu=None if cpu is None else float(cpu),
        timeout_s=None if timeout_s is None else float(timeout_s),
    )


def _batching(top: Fields) -> Batching | None:
    if "batching" not in top:
        return None
    batching = top.fields("batching", ("max_size", "max_delay_ms"))
    max_size = batching.number("max_size", above=0)
    if max_size is None:
        raise InvalidError("batching.max_size", None, "write max_size: the rows of a batch at most")
    if not isinstance(max_size, int):
        raise InvalidError("batching.max_size", max_size, "give whole rows")
    delay_ms = batching.number("max_delay_ms", above=0, inclusive=True)
    return Batching(max_size=max_size, max_delay_ms=float(delay_ms or 0.0))


def _texts(top: Fields, key: str) -> dict[str, str]:
    texts = top.fields(key, None)
    return {name: texts.text(name, required=True) for name in texts.names()}
