"""bundle.yaml: what an author writes about a model, read strictly.

Whatever is not understood is refused by name, with the nearest word that would be: a misspelt
`check` must not become a model without one. Specified in docs/specs/bundle.md.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from runtime import files
from runtime.bundle.index import Check, Resources
from runtime.errors import InvalidError

SOURCE_NAME = "bundle.yaml"
MAX_SOURCE_BYTES = 64 * 1024
MAX_DEPTH = 16
MAX_NUMBER = 1e12
EXAMPLE = "name: my-model\nkind: onnx\nmodel: model.onnx\n"

_NAME = re.compile(r"[a-z0-9-]{1,63}")
_LATER_KINDS = ("python", "ensemble", "container")


@dataclass(frozen=True)
class Source:
    """A valid bundle.yaml. Paths are relative and stay in the directory; they may not exist."""

    name: str
    kind: str
    model: str
    entry: str | None
    check: Check | None
    resources: Resources
    sources: tuple[str, ...]
    tags: dict[str, str]
    description: str


def read_source(directory: Path) -> Source:
    """Return what a directory's bundle.yaml says.

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
    return parse_source(data)


def parse_source(data: bytes) -> Source:
    """Return what the bytes of a bundle.yaml say; raise InvalidError as read_source does."""
    if len(data) > MAX_SOURCE_BYTES:
        raise InvalidError(
            SOURCE_NAME, f"more than {MAX_SOURCE_BYTES} bytes", "keep data in files beside it"
        )
    top = _Fields(_load(data), "", ("name", "kind", "model", *_OPTIONAL))
    name = top.text("name", required=True)
    if not _NAME.fullmatch(name):
        raise InvalidError("name", name, "use 1 to 63 of a-z, 0-9 and '-'")
    return Source(
        name=name,
        kind=_kind(top.text("kind", required=True)),
        model=top.path("model", required=True),
        entry=_entry(top),
        check=_check(top),
        resources=_resources(top),
        sources=top.texts("sources"),
        tags=_tags(top),
        description=top.text("description"),
    )


_OPTIONAL = ("entry", "check", "resources", "sources", "tags", "description")


class _Fields:
    """One mapping of the document: hands out its values by name and type, or says what is wrong."""

    def __init__(self, value: object, prefix: str, known: tuple[str, ...] | None) -> None:
        field = prefix.rstrip(".") or SOURCE_NAME
        if not isinstance(value, dict):
            _refuse(field, value, "keys with values")
        self._values: Mapping[Any, Any] = value
        self._prefix = prefix
        for key in value:
            if not isinstance(key, str):
                _refuse(f"{prefix}{key}", key, "a key that is text: quote it")
            if known is not None and key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise InvalidError(
                    f"{prefix}{key}", key, f"{hint}the keys here are {', '.join(known)}"
                )

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def names(self) -> list[str]:
        """Return the keys, in order."""
        return list(self._values)

    def fields(self, key: str, known: tuple[str, ...] | None) -> "_Fields":
        """Return a mapping; an empty one if the key is missing."""
        return _Fields(self._values.get(key, {}), f"{self._prefix}{key}.", known)

    def text(self, key: str, *, required: bool = False) -> str:
        """Return text; "" if the key is missing."""
        if key not in self._values:
            if required:
                raise InvalidError(f"{self._prefix}{key}", None, f"write {key}: …")
            return ""
        value = self._values[key]
        if not isinstance(value, str) or not value.strip():
            _refuse(f"{self._prefix}{key}", value, "text")
        return value

    def path(self, key: str, *, required: bool = False) -> str:
        """Return a relative path that stays in the bundle; "" if the key is missing."""
        text = self.text(key, required=required)
        return str(files.relative_path(text, f"{self._prefix}{key}")) if text else ""

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; an empty one if the key is missing."""
        values = self._values.get(key, [])
        if not isinstance(values, list):
            _refuse(f"{self._prefix}{key}", values, "a list of text")
        for number, value in enumerate(values):
            if not isinstance(value, str) or not value.strip():
                _refuse(f"{self._prefix}{key}[{number}]", value, "text")
        return tuple(values)

    def number(self, key: str, *, above: float, inclusive: bool = False) -> float | None:
        """Return a finite number above a bound; None if the key is missing."""
        if key not in self._values:
            return None
        value = self._values[key]
        field = f"{self._prefix}{key}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            _refuse(field, value, "a number")
        if not abs(value) <= MAX_NUMBER:  # so written that nan is refused too
            raise InvalidError(field, value, f"give a number of at most {MAX_NUMBER:g}")
        if value < above or (value == above and not inclusive):
            bound = "at least" if inclusive else "more than"
            raise InvalidError(field, value, f"give a number of {bound} {above:g}")
        return value


def _kind(kind: str) -> str:
    if kind in _LATER_KINDS:
        raise InvalidError("kind", kind, "this version does not yet support it: use kind: onnx")
    if kind != "onnx":
        raise InvalidError("kind", kind, "write kind: onnx")
    return kind


def _entry(top: _Fields) -> str | None:
    entry = top.path("entry")
    if entry and not entry.endswith(".py"):
        raise InvalidError("entry", entry, "name a Python file that ends in .py")
    return entry or None


def _check(top: _Fields) -> Check | None:
    if "check" not in top:
        return None
    check = top.fields("check", ("inputs", "outputs", "rtol", "atol", "p95_ms"))
    default = Check(inputs="")
    rtol = check.number("rtol", above=0, inclusive=True)
    atol = check.number("atol", above=0, inclusive=True)
    p95_ms = check.number("p95_ms", above=0)
    return Check(
        inputs=check.path("inputs", required=True),
        outputs=check.path("outputs") or None,
        rtol=default.rtol if rtol is None else float(rtol),
        atol=default.atol if atol is None else float(atol),
        p95_ms=None if p95_ms is None else float(p95_ms),
    )


def _resources(top: _Fields) -> Resources:
    resources = top.fields("resources", ("memory_mb", "cpu"))
    memory_mb = resources.number("memory_mb", above=0)
    if memory_mb is not None and not isinstance(memory_mb, int):
        raise InvalidError("resources.memory_mb", memory_mb, "give whole MiB")
    cpu = resources.number("cpu", above=0)
    return Resources(memory_mb=memory_mb, cpu=None if cpu is None else float(cpu))


def _tags(top: _Fields) -> dict[str, str]:
    tags = top.fields("tags", None)
    return {name: tags.text(name, required=True) for name in tags.names()}


def _refuse(field: str, value: object, wanted: str) -> NoReturn:
    kind = "nothing" if value is None else type(value).__name__
    quote = f": quote it, as in '{value}'" if isinstance(value, bool | int | float) else ""
    fix = f"give {wanted}, not {kind}{quote if wanted == 'text' else ''}"
    raise InvalidError(field, value, fix)


class _Loader(yaml.SafeLoader):
    """YAML without what makes it dangerous or surprising: tags, anchors, double keys, great depth.

    Aliases are what a "billion laughs" document is made of.
    """

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Forbidden(event.start_mark.line, "&anchors and *aliases", "write the value out")
        if getattr(event, "tag", None):
            raise _Forbidden(event.start_mark.line, "!tags", "write a plain value")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Forbidden(event.start_mark.line, "such depth", f"nest at most {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Forbidden(key.start_mark.line, "a key that is no text", "write plain keys")
            if key.value in seen:
                raise _Forbidden(key.start_mark.line, f"{key.value!r} twice", "write each key once")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as text, because it has no dot; authors mean a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class _Forbidden(yaml.YAMLError):
    """The document uses a part of YAML that a bundle.yaml may not."""

    def __init__(self, line: int, what: str, fix: str) -> None:
        super().__init__(f"{fix} (line {line + 1})")
        self.what = what


def _load(data: bytes) -> object:
    try:
        return yaml.load(data, Loader=_Loader)  # noqa: S506 - a SafeLoader with less
    except _Forbidden as error:
        raise InvalidError(SOURCE_NAME, error.what, str(error)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise InvalidError(SOURCE_NAME, error.problem, f"write valid YAML{where}") from error
    except (yaml.YAMLError, ValueError, IndexError) as error:
        # ValueError and IndexError: PyYAML reads dates, digits and encodings without a check.
        raise InvalidError(SOURCE_NAME, str(error), "write valid YAML, UTF-8") from error
