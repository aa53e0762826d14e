"""Writes what was measured into a bundle.yaml, every other line as it was."""

from pathlib import Path
from typing import Any

import yaml

from runtime import files
from runtime.bundle import source
from runtime.inference.advice import Advice


def write(directory: Path, advice: Advice) -> None:
    """Set `resources` and `batching` in a directory's bundle.yaml as advised.

    Raises InvalidError, and leaves the file as it is, if the bundle.yaml is not valid or would not
    be any more.
    """
    path = directory / source.SOURCE_NAME
    seen = source.read_source(directory)
    resources: dict[str, Any] = {"memory_mb": advice.memory_mb, "cpu": advice.cpu}
    if seen.resources.timeout_s is not None:
        resources["timeout_s"] = seen.resources.timeout_s
    text = edited(path.read_text(), "resources", resources)
    batching = advice.batching
    if batching is not None:
        delay_ms = 0.0 if seen.batching is None else seen.batching.max_delay_ms
        wanted: dict[str, Any] = {"max_size": batching.max_size}
        text = edited(text, "batching", wanted | ({"max_delay_ms": delay_ms} if delay_ms else {}))
    source.parse_source(text.encode())
    files.write_atomic(path, text.encode(), mode=path.stat().st_mode & 0o777)


def edited(text: str, key: str, value: dict[str, Any]) -> str:
    """Return a YAML mapping with one key set: in its place if it is there, else at the end."""
    flow = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000).strip()
    line = f"{key}: {flow}"
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    for name, given in root.value:
        if name.value == key:
            return text[: name.start_mark.index] + line + text[_end(given) :]
    return text + ("" if text.endswith("\n") else "\n") + line + "\n"


def _end(node: yaml.Node) -> int:
    """Return where a value ends; comments and empty lines behind it are not part of it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    index: int = node.end_mark.index
    return index
