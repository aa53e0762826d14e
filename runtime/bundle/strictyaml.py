"""YAML without what makes it dangerous or surprising: tags, anchors, double keys, great depth.

Aliases are what a "billion laughs" document is made of.
"""

import re
from typing import Any

import yaml

from runtime.errors import InvalidError

MAX_DEPTH = 16


def load(data: bytes, name: str) -> object:
    """Return a document's plain value; raise InvalidError with `name` as its field if it has none.

    The caller bounds its size.
    """
    try:
        return yaml.load(data, Loader=_Loader)  # noqa: S506 - a SafeLoader with less
    except _Forbidden as error:
        raise InvalidError(name, error.what, str(error)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise InvalidError(name, error.problem, f"write valid YAML{where}") from error
    except (yaml.YAMLError, ValueError, IndexError) as error:
        # ValueError and IndexError: PyYAML reads dates, digits and encodings without a check.
        raise InvalidError(name, str(error), "write valid YAML, UTF-8") from error


class _Loader(yaml.SafeLoader):
    """A SafeLoader with less."""

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
