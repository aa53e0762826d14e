"""A deployment document from a file: YAML or JSON, with the line of what is wrong and what is near.

Times and sizes may be written with a unit: `soak: 10min` is `soak_s: 600`, `budget: 20MB` in a
`download` is `budget_bytes: 20000000`.
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from cloud import shapes
from cloud.cli import words
from runtime.bundle import strictyaml
from runtime.errors import InvalidError

MAX_BYTES = 256 * 1024
TIMES = frozenset(
    {"soak", "timeout", "for", "backoff", "silence", "after", "device_timeout", "wave_timeout"}
)
SIZE = ("download", "budget")
"""The one size of a document: the last two keys of its place."""
Path = tuple[str | int, ...]


def document(data: bytes, name: str = "deployment") -> shapes.DeploymentDocument:
    """Return the document in a file; raise InvalidError with field, line and what to do."""
    if len(data) > MAX_BYTES:
        raise InvalidError(name, f"{len(data)} bytes", f"write at most {MAX_BYTES}")
    plain = strictyaml.load(data, name)
    if not isinstance(plain, dict):
        raise InvalidError(name, type(plain).__name__, "write keys: name, target, modules")
    lines = dict(_lines(yaml.compose(data, Loader=yaml.SafeLoader), ()))
    try:
        return shapes.DeploymentDocument.model_validate(_plain(plain, (), lines))
    except ValidationError as error:
        raise _told(error, lines) from error


def _lines(node: yaml.Node | None, at: Path) -> Iterator[tuple[Path, int]]:
    """Yield where each value begins."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*at, key.value), key.start_mark.line + 1
            yield from _lines(value, (*at, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield (*at, number), value.start_mark.line + 1
            yield from _lines(value, (*at, number))


def _plain(plain: Any, at: Path, lines: Mapping[Path, int]) -> Any:
    """Return the value with times in seconds and sizes in bytes."""
    if isinstance(plain, list):
        return [_plain(each, (*at, number), lines) for number, each in enumerate(plain)]
    if not isinstance(plain, dict):
        return plain
    named = at == ("modules",)  # a module may be called as a time is
    made: dict[Any, Any] = {}
    for key, value in plain.items():
        if key in TIMES and not named and isinstance(value, str | int | float):
            made[f"{key}_s"] = words.duration(str(value), _field((*at, key), lines))
        elif (*at, key)[-2:] == SIZE and isinstance(value, str | int | float):
            made["budget_bytes"] = words.size(str(value), _field((*at, key), lines))
        else:
            made[key] = _plain(value, (*at, key), lines)
    return made


def _field(at: Path, lines: Mapping[Path, int]) -> str:
    """Return a field with its line; that of what holds it, if it has none of its own."""
    text = ".".join(str(part) for part in at)
    for end in range(len(at), 0, -1):
        for path in (at[:end], (*at[: end - 1], str(at[end - 1]).removesuffix("_s"))):
            if path in lines:
                return f"{text} (line {lines[path]})"
    return text


def _told(error: ValidationError, lines: Mapping[Path, int]) -> InvalidError:
    # A mistyped key leaves the right one missing too: the cause comes first.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    at: Path = tuple(first["loc"])
    field = _field(at, lines)
    if first["type"] == "missing":
        return InvalidError(field, None, f"it must be there: write `{at[-1]}: ...`")
    if first["type"] != "extra_forbidden":
        fix = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        return InvalidError(field, first["input"], fix)
    known = _keys(shapes.DeploymentDocument, at[:-1])
    near = difflib.get_close_matches(str(at[-1]), known, n=1)
    fix = f"did you mean {near[0]!r}? " if near else ""
    return InvalidError(field, at[-1], f"no such key: {fix}known are {', '.join(known)}")


def _keys(model: type[BaseModel], at: Path) -> list[str]:
    """Return the keys that may stand at a place; numbers and names of modules lead no deeper."""
    for part in at:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = next(_models(field.annotation), model)
    return sorted(model.model_fields)


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for each in getattr(kind, "__args__", ()):
        yield from _models(each)
