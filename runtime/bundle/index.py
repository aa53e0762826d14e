"""The index: canonical JSON that lists a bundle's files and says how to run them.

Its SHA-256 is the bundle's identity; it is stored as a blob like any file. Receivers refuse a
`format` above their own and ignore fields they do not know. Specified in docs/specs/bundle.md.
"""

from collections import Counter
from typing import Any, Literal, get_args

import msgspec

from runtime import digests, messages
from runtime.bundle import batching, conditions, containerchecks, containers, ensemble, names
from runtime.bundle.batching import Batching as Batching  # noqa: PLC0414 - for those who import it here
from runtime.bundle.signature import DataType as DataType  # noqa: PLC0414 - for those who import it here
from runtime.bundle.signature import Signature as Signature  # noqa: PLC0414 - for those who import it here
from runtime.bundle.signature import TensorSpec as TensorSpec  # noqa: PLC0414 - for those who import it here
from runtime.digests import Digest
from runtime.errors import InvalidError

FORMAT = 1
MAX_INDEX_BYTES = 4 * 1024 * 1024
MAX_FILES = 10_000
MAX_REQUIREMENTS = 1000
MAX_VARIANTS = 32

Kind = Literal["onnx", "python", "ensemble", "container"]
"""Who makes the outputs: the graph in `model`, run() in `entry`, or `steps`; or no model at all."""


class FileEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of a bundle."""

    path: str
    """Relative, '/' between the parts."""
    size: int
    sha256: Digest
    executable: bool = False


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """The acceptance test that runs on the device before traffic."""

    inputs: str
    """Path of a .npz in the bundle: input name to array."""
    outputs: str | None = None
    """Path of a .npz with the outputs that these inputs must give; None: it only must run."""
    rtol: float = 1e-3
    atol: float = 1e-5
    p95_ms: float | None = None
    """The 95th percentile of latency per call may be at most this, on the device itself."""
    memory_mb: float | None = None
    """The process that runs the model may have used at most this at its peak, MiB of resident
    memory, once the check has run there."""


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the model's worker process may use."""

    memory_mb: int | None = None
    """Resident memory of the worker, MiB; None: no limit."""
    cpu: float | None = None
    """Cores; sets the number of inference threads (rounded up). None: one thread."""
    timeout_s: float | None = None
    """How long one call of an entry script may take in a server; None: 60 seconds."""


class Loss(msgspec.Struct, frozen=True):
    """What a variant was measured to lose against the bundle's own model."""

    metric: str
    """"disagreement": share of rows with another highest output; "error": root mean square
    difference, in deviations of the output."""
    value: float
    rows: int
    """How many rows it was measured on."""


class Variant(msgspec.Struct, frozen=True, omit_defaults=True):
    """The same model for other hardware: what differs from the top level."""

    name: str
    """1 to 63 of a-z, 0-9 and '-'."""
    when: dict[str, tuple[str, ...]]
    """Fact to the conditions of which one must hold, all facts together: see bundle.variants."""
    model: str
    """Path of its model file."""
    only: tuple[str, ...] = ()
    """Paths that no other variant needs, its model file among them."""
    providers: tuple[str, ...] = ()
    """onnxruntime's execution providers, best first; (): the CPU."""
    check: Check | None = None
    """None: that of the bundle."""
    lost: Loss | None = None


class Uses(msgspec.Struct, frozen=True):
    """A registered version whose content this bundle includes, as an ensemble does."""

    model: str
    version: int
    bundle: Digest


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model of an ensemble."""

    name: str
    """1 to 63 of a-z, 0-9 and '-'."""
    directory: str
    """Where its files lie in the bundle; its own paths are relative to this."""
    index: "Index"
    """What it is; its files are listed by the ensemble alone."""
    inputs: dict[str, str] = {}
    """Its input to where it comes from; see runtime.bundle.ensemble."""


class Index(msgspec.Struct, frozen=True, omit_defaults=True):
    """A bundle, whole."""

    format: int
    name: str
    """The model's name, 1 to 63 of a-z, 0-9 and '-'."""
    kind: Kind
    model: str
    """Path of the model file; "" where kind python has none of its own."""
    files: tuple[FileEntry, ...]
    signature: Signature
    entry: str | None = None
    """Path of a Python file with any of init(), run(), source(); kind python has run() in it."""
    requirements: tuple[str, ...] = ()
    """What the entry script imports, each as PEP 508 writes it ("scikit-learn==1.7.2")."""
    needs: tuple[str, ...] = ()
    """What else than the entry script takes trust in the publisher; see runtime.bundle.policy."""
    check: Check | None = None
    resources: Resources = Resources()
    sources: tuple[str, ...] = ()
    """Default sources, as URIs."""
    tags: dict[str, str] = {}
    description: str = ""
    metadata: dict[str, str] = {}
    """Free; unlike tags, no selector and no list shows it by itself."""
    card: str = ""
    """Path of the model card (Markdown); "": there is none."""
    uses: tuple[Uses, ...] = ()
    steps: tuple[Step, ...] = ()
    """The models of kind ensemble."""
    outputs: dict[str, str] = {}
    """Output of an ensemble to STEP.OUTPUT."""
    variants: tuple[Variant, ...] = ()
    """The first that a device fulfils is what it runs; none: the top level."""
    only: tuple[str, ...] = ()
    """Paths that no variant needs but the top level; () without variants."""
    providers: tuple[str, ...] = ()
    """onnxruntime's execution providers, best first; (): the CPU."""
    batching: Batching | None = None
    """None: requests are never put together."""
    container: containers.Group | None = None
    """Of kind container."""


def encode(index: Index) -> bytes:
    """Return the canonical bytes whose digest names the bundle."""
    return messages.canonical_json(index)


def identity(index: Index) -> Digest:
    """Return the bundle's digest."""
    return digests.of_bytes(encode(index))


def decode(data: bytes) -> Index:
    """Return a valid index; raise InvalidError naming the field that is wrong."""
    if len(data) > MAX_INDEX_BYTES:
        raise InvalidError("index", f"{len(data)} bytes", f"an index has at most {MAX_INDEX_BYTES}")
    try:
        plain: Any = msgspec.json.decode(data)
        if (
            isinstance(plain, dict)
            and isinstance(plain.get("format"), int)
            and plain["format"] > FORMAT
        ):
            raise InvalidError(
                "format", plain["format"], f"this Packhorse reads up to {FORMAT}: upgrade it"
            )
        _require_known_kind(plain)
        index = msgspec.convert(plain, Index)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError("index", data[:80], str(error)) from error
    validate(index)
    return index


def _require_known_kind(plain: Any) -> None:
    kind = plain.get("kind") if isinstance(plain, dict) else None
    if isinstance(kind, str) and kind not in get_args(Kind):
        known = ", ".join(get_args(Kind))
        raise InvalidError("kind", kind, f"this Packhorse runs {known}: upgrade it")


def validate(index: Index) -> None:
    """Raise InvalidError unless files are listed once and safely, and references are listed."""
    _validate_files(index)
    if index.kind == "python" and index.entry is None:
        raise InvalidError("entry", None, "kind python needs a script with run()")
    if index.variants and index.kind != "onnx":
        raise InvalidError("variants", len(index.variants), "only kind onnx has variants")
    if index.kind == "ensemble":
        _validate_steps(index)
    elif index.steps:
        raise InvalidError("steps", len(index.steps), "only kind ensemble has steps")
    containerchecks.require_for(index.kind, index.container)
    if (count := len(index.requirements)) > MAX_REQUIREMENTS:
        raise InvalidError("requirements", count, f"list at most {MAX_REQUIREMENTS}")
    batching.require(index.batching, index.signature)
    _validate_variants(index.variants)
    for seen in (None, *index.variants):
        _validate_references(index, seen)


def files_of(index: Index, variant: Variant | None) -> tuple[FileEntry, ...]:
    """Return the files that a device with a variant needs; None: with the top level."""
    foreign = {path for each in index.variants if each is not variant for path in each.only}
    if variant is not None:
        foreign.update(index.only)
    return tuple(entry for entry in index.files if not foreign or entry.path not in foreign)


def wiring(index: Index) -> ensemble.Wiring:
    """Return how an ensemble's steps are connected; raise InvalidError if they do not fit."""
    nodes = [ensemble.Node(step.name, step.inputs, step.index.signature) for step in index.steps]
    return ensemble.wire(nodes, index.outputs)


def step_index(index: Index, step: Step) -> Index:
    """Return a step as a bundle of its own: its files are those below its directory."""
    folder = f"{step.directory}/"
    own = tuple(
        msgspec.structs.replace(entry, path=entry.path.removeprefix(folder))
        for entry in index.files
        if entry.path.startswith(folder)
    )
    return msgspec.structs.replace(step.index, files=own)


def _validate_steps(index: Index) -> None:
    if wiring(index).signature != index.signature:
        raise InvalidError("signature", "…", "it is not what the steps take and give: build again")
    for step in index.steps:
        names.require(step.name, "steps.name")
        if step.index.kind == "ensemble":
            raise InvalidError(f"steps[{step.name}]", "ensemble", "list its steps here instead")
        validate(step_index(index, step))


def _validate_variants(variants: tuple[Variant, ...]) -> None:
    called = [each.name for each in variants]
    if len(called) > MAX_VARIANTS:
        raise InvalidError("variants", len(called), f"give at most {MAX_VARIANTS}")
    if len(set(called)) != len(called):
        raise InvalidError("variants", called, "give each variant its own name")
    for number, each in enumerate(variants):
        names.require_variant(each.name, f"variants[{number}].name")
        for fact, texts in each.when.items():
            for text in texts:
                conditions.require(text, f"variants[{number}].when.{fact}")


def _validate_references(index: Index, variant: Variant | None) -> None:
    """Raise InvalidError unless a device with a variant, or with none, has what is named for it."""
    paths = {entry.path for entry in files_of(index, variant)}
    own = index if variant is None else variant
    prefix = "" if variant is None else f"variants[{variant.name}]."
    if index.kind == "onnx" and not own.model:
        raise InvalidError(f"{prefix}model", own.model, "name the ONNX file")
    check = own.check or index.check or Check(inputs="")
    for field, path in (
        (f"{prefix}model", own.model),
        ("entry", index.entry),
        (f"{prefix}check.inputs", check.inputs),
        (f"{prefix}check.outputs", check.outputs),
        ("card", index.card),
    ):
        if path and path not in paths:
            raise InvalidError(field, path, "name a file of the bundle")


def _validate_files(index: Index) -> None:
    if len(index.files) > MAX_FILES:
        raise InvalidError("files", len(index.files), f"a bundle has at most {MAX_FILES} files")
    counts = Counter(entry.path for entry in index.files)
    twice = sorted(path for path, count in counts.items() if count > 1)
    if twice:
        raise InvalidError("files", twice, "list each once")
    for entry in index.files:
        names.require_path(entry.path, "files.path")
        digests.parse(entry.sha256, f"files[{entry.path}].sha256")
        if entry.size < 0:
            raise InvalidError(f"files[{entry.path}].size", entry.size, "give bytes, 0 or more")
