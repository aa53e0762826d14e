"""`packhorse deploy` with a document, or with waves: a rollout."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud import shapes
from cloud.cli import documents, login, output, rollouts, words
from runtime.errors import InvalidError

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(%?)")


@dataclass(frozen=True)
class Options:
    """What stands beside -f and --wave on the command line."""

    model: str = ""
    to: str = ""
    module: str | None = None
    name: str = ""
    sources: tuple[str, ...] = ()
    soak: str = "30s"
    capture_inputs: float = 0.0
    candidate: Mapping[str, object] | None = None
    """As `cloud.cli.candidates.wish` returns it."""
    download: Mapping[str, object] = field(default_factory=dict)


def require(model: str, to: str) -> None:
    """Raise InvalidError unless it is said what to deploy, and where to."""
    if not model:
        raise InvalidError("NAME", model, "name a model, or give a document by -f FILE")
    if not to:
        raise InvalidError("--to", to, "say which devices: --to all, or --to site=lab")


def document(file: str | None, waves: Sequence[str], options: Options) -> shapes.DeploymentDocument:
    """Return the document in a file, or the one that options stand for."""
    if file is None:
        require(options.model, options.to)
        return _made(waves, options)
    if options != Options() or waves:
        raise InvalidError("-f", file, "leave out all other options: the document says it")
    return read(file)


def read(file: str) -> shapes.DeploymentDocument:
    """Return the document in a file; "-" is stdin."""
    if file == "-":
        return documents.document(sys.stdin.buffer.read(documents.MAX_BYTES + 1), "stdin")
    path = Path(file)
    if not path.is_file():
        raise InvalidError("-f", file, "name a file that is there, or - for stdin")
    with path.open("rb") as opened:
        return documents.document(opened.read(documents.MAX_BYTES + 1), path.name)


def _made(waves: Sequence[str], options: Options) -> shapes.DeploymentDocument:
    model, _version = words.reference(options.model)
    module = options.module or model
    wish = shapes.ModuleWish.make(
        model=options.model,
        sources=list(options.sources) or None,
        capture=shapes.Capture.make(inputs=options.capture_inputs),
        soak_s=words.duration(options.soak, "soak"),
        candidate=_candidate(options.candidate),
        download=dict(options.download),
    )
    return shapes.DeploymentDocument.make(
        name=options.name or module,
        target=options.to,
        modules={module: wish},
        strategy={"waves": [_wave(each) for each in waves]},
    )


def _candidate(given: Mapping[str, object] | None) -> dict[str, object] | None:
    """Return a candidate as a document writes it: by one reference."""
    if given is None:
        return None
    rules = {key: value for key, value in given.items() if key not in {"model", "version"}}
    version = given["version"]
    return {**rules, "model": f"{given['model']}:{version}" if version else given["model"]}


def _wave(text: str) -> dict[str, Any]:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return {"selector": text}
    if found[2]:
        return {"percent": float(found[1])}
    return {"count": int(found[1]) if found[1].isdigit() else found[1]}


def roll_out(document: shapes.DeploymentDocument, *, timeout_s: float | None, json: bool) -> None:
    """Begin a rollout; with a time-out, wait until it is complete or over."""
    with login.client() as registry:
        made = registry.roll_out(document)
        if timeout_s is None:
            output.as_json(made) if json else output.result(made.id)
            return
        detail = rollouts.wait(registry, made.id, timeout_s=timeout_s)
    output.as_json(detail) if json else output.result(made.id)
    rollouts.raise_unless_complete(detail)
