"""`packhorse models`: push, list, show, pull, check."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import login, output, progress, words
from cloud.cli.output import JsonFlag

if TYPE_CHECKING:
    from runtime.bundle.index import Index, TensorSpec

app = typer.Typer(no_args_is_help=True, help="Push, look at and pull models.")

Directory = Annotated[Path, typer.Argument(help="Directory with a bundle.yaml.")]
Reference = Annotated[str, typer.Argument(metavar="NAME[:VERSION]")]


@app.command()
def push(directory: Directory, *, json: JsonFlag = False) -> None:
    """Register a bundle as the next version of its model; uploads only what is new."""
    from runtime.bundle import build

    built = build.build(directory)
    with login.client() as registry:
        missing = {
            digest: path for digest, path in built.files.items() if not registry.has_blob(digest)
        }
        total = sum(path.stat().st_size for path in missing.values())
        with progress.transfer(f"pushing {built.index.name}", total) as advance:
            for digest, path in missing.items():
                registry.put_blob(digest, path, advance)
        made = registry.register(built.index.name, built.index_bytes)
    if json:
        output.as_json(made)
        return
    kept = len(built.files) - len(missing)
    output.say(
        f"{'Registered' if made.created else 'Already registered'}: "
        f"{len(missing)} files sent ({output.size(total)}), {kept} were there"
    )
    output.result(f"{made.model}:{made.version}")


@app.command()
def check(directory: Directory, *, json: JsonFlag = False) -> None:
    """Build a bundle, load its model and run its own check here, without a registry."""
    import json as jsons
    import tempfile

    from runtime.bundle import build, materialise
    from runtime.bundle.blobs import BlobStore
    from runtime.errors import ModelError
    from runtime.inference import check as checks
    from runtime.inference.model import Model

    built = build.build(directory)
    with tempfile.TemporaryDirectory() as scratch:
        blobs, target = BlobStore(Path(scratch) / "blobs"), Path(scratch) / "bundle"
        for digest, path in built.files.items():
            blobs.put_file(digest, path)
        materialise.materialise(built.index, built.index_bytes, blobs, target)
        model = Model.load(target, built.index)
        found = checks.run_check(model, target, built.index)
    if json:
        plain = {"ok": found.ok, "text": found.text, "p95_ms": found.p95_ms}
        output.result(jsons.dumps({**plain, "bundle": built.digest}, indent=2))
    else:
        _show_index(built.index, built.digest)
        output.say(found.text)
    if not found.ok:
        raise ModelError(f"check: {found.text}")


@app.command("list")
def list_models(*, json: JsonFlag = False) -> None:
    """List all models."""
    with login.client() as registry:
        found = list(registry.models())
    if json:
        output.as_json(found)
        return
    rows = [
        (
            each.name,
            str(each.latest.version),
            output.size(each.latest.size_bytes),
            output.moment(each.latest.created_at),
            each.latest.description,
        )
        for each in found
    ]
    output.show(
        ("model", "newest", "size", "registered", "description"),
        rows,
        none="No models yet: `packhorse models push DIRECTORY` registers one.",
    )


@app.command()
def show(model: Reference, *, json: JsonFlag = False) -> None:
    """Show a version (the newest if none is named) and all versions of its model."""
    from runtime.bundle import index

    name, version = words.reference(model)
    with login.client() as registry:
        found = registry.version(name, version)
        if json:
            output.as_json(found)
            return
        parsed = index.decode(registry.index(name, str(found.version)))
        others = list(registry.versions(name))
    output.result(f"{found.model}:{found.version}")
    _show_index(parsed, found.bundle)
    rows = [
        (str(each.version), each.bundle[:12], output.moment(each.created_at), each.created_by)
        for each in others
    ]
    output.show(("version", "bundle", "registered", "by"), rows, none="")


@app.command()
def pull(
    model: Reference,
    directory: Annotated[Path, typer.Option("--output", "-o", help="A new directory.")],
    *,
    json: JsonFlag = False,
) -> None:
    """Download a version and check every byte; the directory can be pushed again as it is."""
    from cloud.cli import pulling

    name, version = words.reference(model)
    with login.client() as registry:
        found = pulling.pull(registry, name, version, directory)
    if json:
        output.as_json(found)
    else:
        output.result(f"{found.model}:{found.version} in {directory}")


def _show_index(index: "Index", digest: str) -> None:
    output.facts(
        [
            ("bundle", digest),
            ("files", f"{len(index.files)}, {output.size(sum(e.size for e in index.files))}"),
            ("inputs", _tensors(index.signature.inputs)),
            ("outputs", _tensors(index.signature.outputs)),
            ("entry", index.entry or "none"),
            ("check", index.check.inputs if index.check else "none"),
            ("sources", ", ".join(index.sources) or "none"),
            ("tags", output.labels(index.tags) or "none"),
            ("description", index.description or "none"),
        ]
    )


def _tensors(specs: "tuple[TensorSpec, ...]") -> str:
    return ", ".join(f"{each.name} {each.datatype}{list(each.shape)}" for each in specs)
