"""`packhorse models variants add`: from a bundle directory to one with a variant more.

    model.onnx ──► model.int8.onnx          onnxruntime's own quantizer, calibrated on examples;
                                            or a file that was made elsewhere
    both run on the examples ──► what the variant loses; more than the tolerance is refused
    golden/inputs.npz ──► golden/outputs.int8.npz, and a check with the slack of what was lost
    bundle.yaml gets the variant at the end of `variants:`

Nothing is changed unless all of it worked.
"""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from runtime import files
from runtime.bundle import build, source
from runtime.bundle.index import Check, Index, Loss
from runtime.errors import InvalidError
from runtime.inference import check as checks
from runtime.inference import quantize, tensors
from runtime.inference.session import Session
from runtime.inference.tensors import Arrays

INT8 = "int8"
TOLERANCE = 0.02
"""How much of the bundle's quality a variant may lose by default: see Loss."""
SMALL: Mapping[str, tuple[str, ...]] = {"memory_mb": ("<=2048",)}
"""Whom int8 is for unless something else is said."""
_TOP_LEVEL = re.compile(r"^[^\s#-]", re.MULTILINE)


@dataclass(frozen=True)
class Wish:
    """What variant to make."""

    name: str = INT8
    file: Path | None = None
    """A model that was made elsewhere; None: an int8 one is made here."""
    when: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(SMALL))
    """Conditions on facts."""
    providers: tuple[str, ...] = ()
    """onnxruntime's execution providers, best first; (): the CPU."""
    tolerance: float = TOLERANCE
    examples: Path | None = None
    """A .npz of inputs to calibrate and measure on; None: the bundle's check inputs."""


@dataclass(frozen=True)
class Made:
    """The variant that was made."""

    name: str
    model: str
    """Path in the bundle."""
    size_bytes: int
    was_bytes: int
    """Size of the bundle's own model."""
    lost: Loss


def add(directory: Path, wish: Wish) -> Made:
    """Add a variant to a bundle directory.

    Raises InvalidError if the bundle is no plain ONNX model, has no inputs to measure on, has such
    a variant already, or if the variant takes or gives something else or loses more than
    `wish.tolerance`; ModelError if it does not load, or cannot be quantised. The directory is as
    before then.
    """
    index = build.build(directory).index
    _require_fitting(index, wish)
    examples = _examples(directory, index, wish)
    stem = Path(index.model)
    target = str(stem.with_name(f"{stem.stem}.{wish.name}{stem.suffix}"))
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "model.onnx"
        if wish.file is None:
            quantize.int8(directory / index.model, made, examples)
        else:
            shutil.copyfile(wish.file, made)
        own, other = Session(directory / index.model), Session(made)
        _require_alike(own, other)
        lost = quantize.loss(_run(own, index, examples), _run(other, index, examples))
        _require_little(lost, wish)
        new = {target: made}
        check = None
        if index.check is not None:
            golden = Path(scratch) / "outputs.npz"
            check = _check(directory, index, wish.name, (own, other), golden)
            new[str(check.outputs)] = golden
        entry = _entry(wish, target, check, lost)
        text = with_variant((directory / source.SOURCE_NAME).read_text("utf-8"), entry)
        source.parse_source(text.encode())
        _install(directory, new, text)
    return Made(
        wish.name,
        target,
        (directory / target).stat().st_size,
        (directory / index.model).stat().st_size,
        lost,
    )


def with_variant(text: str, entry: Mapping[str, object]) -> str:
    """Return a bundle.yaml with one more variant; every other line stays as it is."""
    lines = yaml.safe_dump([entry], sort_keys=False, allow_unicode=True, width=100).splitlines()
    text = text if text.endswith("\n") or not text else text + "\n"
    found = re.search(r"^variants:[ \t]*(\[\][ \t]*)?(#.*)?$\n?", text, re.MULTILINE)
    if found is None:
        return text + "variants:\n" + "".join(f"  {line}\n" for line in lines)
    following = _TOP_LEVEL.search(text, found.end())
    end = len(text) if following is None else following.start()
    present = text[found.end() : end]
    item = re.search(r"^( *)- ", present, re.MULTILINE)
    indent = "  " if item is None else item[1]
    block = "".join(f"{indent}{line}\n" for line in lines)
    return f"{text[: found.start()]}variants:\n{present}{block}{text[end:]}"


def _require_fitting(index: Index, wish: Wish) -> None:
    if index.kind != "onnx":
        raise InvalidError("kind", index.kind, "only a model of kind onnx has variants")
    if any(each.name == wish.name for each in index.variants):
        raise InvalidError(
            "variant", wish.name, "there is one already: choose another --name, or remove it"
        )


def _examples(directory: Path, index: Index, wish: Wish) -> Arrays:
    if wish.examples is not None:
        found = checks.read_arrays(wish.examples)
    elif index.check is not None:
        found = checks.read_arrays(directory / index.check.inputs)
    else:
        raise InvalidError(
            "examples",
            None,
            "the bundle has no check inputs: give --examples FILE.npz, inputs such as devices see",
        )
    return tensors.conform(index.signature, found)


def _require_alike(own: Session, other: Session) -> None:
    if own.signature != other.signature:
        raise InvalidError(
            "variant",
            str(other.signature),
            f"it must take and give what the bundle's model does: {own.signature}",
        )


def _run(session: Session, index: Index, inputs: Arrays) -> Arrays:
    return session.run(inputs, [spec.name for spec in index.signature.outputs])


def _require_little(lost: Loss, wish: Wish) -> None:
    if lost.value > wish.tolerance:
        raise InvalidError(
            "tolerance",
            wish.tolerance,
            f"the variant loses {lost.value:.4g} ({lost.metric} over {lost.rows} rows): calibrate"
            " on more --examples, or allow it with a higher --tolerance",
        )


def _check(
    directory: Path, index: Index, name: str, sessions: tuple[Session, Session], golden: Path
) -> Check:
    """Return the variant's own check: its outputs here, and as much slack as it differs by."""
    check = index.check
    assert check is not None
    inputs = tensors.conform(index.signature, checks.read_arrays(directory / check.inputs))
    wanted, got = (_run(session, index, inputs) for session in sessions)
    # Boards round int8 sums in ways of their own, which may turn a label that was close: scores
    # tell more, and with a slack of what quantising costs anyway.
    scores = {output: array for output, array in got.items() if array.dtype.kind == "f"}
    np.savez(golden, allow_pickle=False, **(scores or got))
    slack = max(
        (
            float(np.max(np.abs(array.astype(np.float64) - wanted[output])))
            for output, array in scores.items()
            if array.size
        ),
        default=0.0,
    )
    return Check(
        inputs=check.inputs,
        outputs=str(Path(check.inputs).parent / f"outputs.{name}.npz"),
        rtol=check.rtol,
        atol=max(check.atol, slack),
        p95_ms=check.p95_ms,
        memory_mb=check.memory_mb,
    )


def _entry(wish: Wish, target: str, check: Check | None, lost: Loss) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": wish.name,
        "when": {fact: _plain(conditions) for fact, conditions in wish.when.items()},
        "model": target,
    }
    if wish.providers:
        entry["providers"] = list(wish.providers)
    if check is not None:
        numbers = {
            "rtol": check.rtol,
            "atol": round(check.atol, 6),
            "p95_ms": check.p95_ms,
            "memory_mb": check.memory_mb,
        }
        given = {key: value for key, value in numbers.items() if value is not None}
        entry["check"] = {"inputs": check.inputs, "outputs": check.outputs, **given}
    entry["lost"] = {"metric": lost.metric, "value": round(lost.value, 6), "rows": lost.rows}
    return entry


def _plain(conditions: tuple[str, ...]) -> object:
    return conditions[0] if len(conditions) == 1 else list(conditions)


def _install(directory: Path, new: Mapping[str, Path], text: str) -> None:
    """Put new files beside the old ones, bundle.yaml last; take them away if that fails."""
    with contextlib.ExitStack() as undo:
        for path, made in new.items():
            place = directory / path
            if place.exists():
                raise InvalidError("variant", path, "this file is there: remove it first")
            undo.callback(files.remove, place)
            shutil.copyfile(made, place)
        written = directory / source.SOURCE_NAME
        undo.callback(files.write_atomic, written, written.read_bytes(), mode=0o644)
        files.write_atomic(written, text.encode(), mode=0o644)
        build.build(directory)
        undo.pop_all()
