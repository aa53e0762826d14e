"""Kind ensemble: several models whose outputs feed inputs, in one bundle. Pure.

    kind: ensemble
    ensemble:
      steps:
        - name: detect
          use: plate-detector:3          # a registered version: its content travels in this bundle
          inputs: {image: image}         # its input: an input of the ensemble
        - name: read
          bundle: steps/read             # or a directory here with a bundle.yaml of its own
          inputs: {crop: detect.crop}    # its input: an output of another step
      outputs: {text: read.text, score: detect.score}

An input that is not listed takes the ensemble's input of the same name. Without `outputs` the
ensemble gives every output that no step takes, under its own name. Types and shapes are checked
when the bundle is built and again by whoever loads it.
"""

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runtime.bundle.signature import Signature, TensorSpec
from runtime.errors import InvalidError

MAX_STEPS = 32
FLEXIBLE = -1


@dataclass(frozen=True)
class Node:
    """A step, as far as wiring goes."""

    name: str
    inputs: Mapping[str, str]
    """Input of the step to where it comes from: NAME (of the ensemble) or STEP.OUTPUT."""
    signature: Signature

    @functools.cached_property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """What the step gives, by name."""
        return {spec.name: spec for spec in self.signature.outputs}


@dataclass(frozen=True)
class Wiring:
    """A checked ensemble: what runs when, on what."""

    levels: tuple[tuple[str, ...], ...]
    """Steps in order; those of one level do not need one another."""
    feeds: Mapping[str, Mapping[str, str]]
    """Step to (its input to where it comes from), whole."""
    outputs: Mapping[str, str]
    """Output of the ensemble to STEP.OUTPUT."""
    signature: Signature


def wire(nodes: Sequence[Node], outputs: Mapping[str, str]) -> Wiring:
    """Return how the steps are connected.

    Raises InvalidError naming the step and input: one that nothing gives, an output that is not
    there, types or shapes that do not fit, steps that wait for one another in a circle.
    """
    if not 0 < len(nodes) <= MAX_STEPS:
        raise InvalidError("ensemble.steps", len(nodes), f"give 1 to {MAX_STEPS}")
    twice = [name for name, count in Counter(node.name for node in nodes).items() if count > 1]
    if twice:
        raise InvalidError("ensemble.steps", twice[0], "give each step a name of its own")
    by_name = {node.name: node for node in nodes}
    feeds = {node.name: _feeds(node, by_name) for node in nodes}
    levels = _levels(feeds)
    inputs = _inputs(nodes, feeds, by_name)
    given = _outputs(nodes, feeds, by_name, outputs)
    specs = tuple(
        _renamed(_spec_of(source, by_name, f"ensemble.outputs.{name}"), name)
        for name, source in given.items()
    )
    return Wiring(levels, feeds, given, Signature(inputs, specs))


def _feeds(node: Node, by_name: Mapping[str, Node]) -> dict[str, str]:
    """Return where each input of a step comes from; raise InvalidError where the two do not fit."""
    known = {spec.name: spec for spec in node.signature.inputs}
    for name in node.inputs:
        if name not in known:
            raise InvalidError(_field(node, name), name, f"its inputs are {', '.join(known)}")
    feeds = {name: node.inputs.get(name, name) for name in known}
    for name, source in feeds.items():
        if _is_output(source, by_name) or (name in node.inputs and "." in source):
            _require_fit(
                _spec_of(source, by_name, _field(node, name)),
                known[name],
                _field(node, name),
                source,
            )
    return feeds


def _is_output(source: str, by_name: Mapping[str, object]) -> bool:
    """Say whether this is STEP.OUTPUT; names of inputs may have dots too."""
    return "." in source and source.partition(".")[0] in by_name


def _spec_of(source: str, by_name: Mapping[str, Node], field: str) -> TensorSpec:
    """Return the output that STEP.OUTPUT names; raise InvalidError if there is none."""
    step, _, output = source.partition(".")
    node = by_name.get(step)
    if node is None or not output:
        steps = ", ".join(by_name)
        raise InvalidError(field, source, f"write STEP.OUTPUT; the steps are {steps}")
    if output not in node.outputs:
        raise InvalidError(field, source, f"step {step} gives {', '.join(node.outputs)}")
    return node.outputs[output]


def _require_fit(given: TensorSpec, wanted: TensorSpec, field: str, source: str) -> None:
    if given.datatype != wanted.datatype:
        raise InvalidError(
            field, source, f"it is {given.datatype}, and {wanted.datatype} is wanted: add a cast"
        )
    if not fits(given.shape, wanted.shape):
        raise InvalidError(
            field, source, f"its shape is {list(given.shape)}, and {list(wanted.shape)} is wanted"
        )


def fits(given: Sequence[int], wanted: Sequence[int]) -> bool:
    """Say whether shapes agree wherever both sides fix a size."""
    return len(given) == len(wanted) and all(
        a == b or FLEXIBLE in {a, b} for a, b in zip(given, wanted, strict=True)
    )


def _levels(feeds: Mapping[str, Mapping[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Return the steps in an order in which each finds its inputs; refuse circles."""
    waits = {
        step: {s.partition(".")[0] for s in sources.values() if _is_output(s, feeds)}
        for step, sources in feeds.items()
    }
    levels: list[tuple[str, ...]] = []
    done: set[str] = set()
    while len(done) < len(waits):
        level = tuple(step for step in waits if step not in done and waits[step] <= done)
        if not level:
            circle = ", ".join(step for step in waits if step not in done)
            raise InvalidError(
                "ensemble.steps", circle, "these wait for one another: cut the circle"
            )
        levels.append(level)
        done.update(level)
    return tuple(levels)


def _inputs(
    nodes: Iterable[Node], feeds: Mapping[str, Mapping[str, str]], by_name: Mapping[str, Node]
) -> tuple[TensorSpec, ...]:
    """Return the ensemble's inputs: what steps take that no step gives."""
    found: dict[str, TensorSpec] = {}
    for node in nodes:
        for spec in node.signature.inputs:
            source = feeds[node.name][spec.name]
            if _is_output(source, by_name):
                continue
            if source in by_name:
                fix = f"write {source}.OUTPUT, or call the ensemble's input otherwise"
                raise InvalidError(_field(node, spec.name), source, fix)
            found[source] = _joined(found.get(source), spec, source, node)
    return tuple(found.values())


def _joined(present: TensorSpec | None, spec: TensorSpec, name: str, node: Node) -> TensorSpec:
    """Return one input that suits every step that takes it."""
    if present is None:
        return _renamed(spec, name)
    _require_fit(present, spec, _field(node, spec.name), name)
    shape = tuple(b if a == FLEXIBLE else a for a, b in zip(present.shape, spec.shape, strict=True))
    return TensorSpec(name, spec.datatype, shape)


def _outputs(
    nodes: Sequence[Node],
    feeds: Mapping[str, Mapping[str, str]],
    by_name: Mapping[str, Node],
    outputs: Mapping[str, str],
) -> dict[str, str]:
    """Return the ensemble's outputs: those listed, or all that no step takes."""
    if outputs:
        for name, source in outputs.items():
            _spec_of(source, by_name, f"ensemble.outputs.{name}")
        return dict(outputs)
    taken = {source for sources in feeds.values() for source in sources.values()}
    free = [
        (spec.name, f"{node.name}.{spec.name}")
        for node in nodes
        for spec in node.signature.outputs
        if f"{node.name}.{spec.name}" not in taken
    ]
    twice = [name for name, count in Counter(name for name, _ in free).items() if count > 1]
    if twice:
        raise InvalidError(
            "ensemble.outputs", twice[0], "several steps give it: list the outputs, each by a name"
        )
    if not free:
        raise InvalidError("ensemble.outputs", None, "list at least one, as NAME: STEP.OUTPUT")
    return dict(free)


def _renamed(spec: TensorSpec, name: str) -> TensorSpec:
    return TensorSpec(name, spec.datatype, spec.shape)


def _field(node: Node, name: str) -> str:
    return f"ensemble.steps[{node.name}].inputs.{name}"
