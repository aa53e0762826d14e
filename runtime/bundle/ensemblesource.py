"""The `ensemble` of a bundle.yaml: see runtime.bundle.ensemble."""

import re
from dataclasses import dataclass

from runtime.bundle import names
from runtime.bundle.fields import Fields
from runtime.errors import InvalidError

FOLDER = "steps"
_USE = re.compile(r"([a-z0-9-]{1,63}):([0-9]{1,9})")


@dataclass(frozen=True)
class StepSource:
    """One step, as its author writes it."""

    name: str
    directory: str
    """Where its bundle lies, or is to lie, in the ensemble's directory."""
    use: tuple[str, int] | None
    """Model and version whose content it is; None: the author's own."""
    inputs: dict[str, str]


def steps(top: Fields, kind: str) -> tuple[StepSource, ...]:
    """Return the steps; none for another kind. Raises InvalidError naming the field."""
    if kind != "ensemble":
        if "ensemble" in top:
            raise InvalidError("ensemble", "…", "write kind: ensemble, or leave it out")
        return ()
    ensemble = top.fields("ensemble", ("steps", "outputs"))
    return tuple(
        _step(each) for each in ensemble.each("steps", ("name", "use", "bundle", "inputs"))
    )


def outputs(top: Fields) -> dict[str, str]:
    """Return the outputs that are listed."""
    listed = top.fields("ensemble", None).fields("outputs", None)
    return {name: listed.text(name, required=True) for name in listed.names()}


def _step(each: Fields) -> StepSource:
    name = names.require(each.text("name", required=True), each.field("name"))
    if ("use" in each) == ("bundle" in each):
        raise InvalidError(each.field("use"), None, "write use: NAME:VERSION, or bundle: DIRECTORY")
    inputs = each.fields("inputs", None)
    return StepSource(
        name=name,
        directory=each.path("bundle") or f"{FOLDER}/{name}",
        use=_use(each) if "use" in each else None,
        inputs={key: inputs.text(key, required=True) for key in inputs.names()},
    )


def _use(each: Fields) -> tuple[str, int]:
    text = each.text("use", required=True)
    found = _USE.fullmatch(text)
    if found is None:
        raise InvalidError(each.field("use"), text, "write NAME:VERSION, with the version's number")
    return found[1], int(found[2])
