"""`packhorse models`: push, check, list, search, show, card, pull; more in its neighbours."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import (
    airgap,
    aliases,
    building,
    completing,
    deleting,
    describing,
    diffing,
    families,
    listing,
    login,
    output,
    profiling,
    variants,
    verifying,
    words,
)
from cloud.cli.output import JsonFlag
from runtime.wording import counted

if TYPE_CHECKING:
    from cloud.cli.pushing import Pushed
    from runtime.bundle.index import Index

app = typer.Typer(no_args_is_help=True, help="Push, look at and pull models.")
app.command()(building.init)
app.command()(airgap.export)
app.command("import")(airgap.load)
app.command("set")(describing.set_)
app.command()(families.lineage)
app.command()(diffing.diff)
app.command()(deleting.delete)
app.command()(verifying.verify)
app.command()(profiling.profile)
app.add_typer(aliases.app, name="alias")
app.add_typer(variants.app, name="variants")

Reference = Annotated[
    str, typer.Argument(metavar="NAME[:VERSION]", autocompletion=completing.models)
]


@app.command()
def push(
    path: building.PathArgument,
    *,
    name: building.Name = None,
    allow: building.Allow = None,
    description: describing.Description = None,
    tag: describing.Tags = None,
    meta: describing.Meta = None,
    card: describing.Card = None,
    alias: describing.Aliases = None,
    run: describing.Run = None,
    commit: describing.Commit = None,
    data: describing.Data = None,
    parent: describing.Parent = None,
    trained_by: describing.TrainedBy = None,
    resolve: building.Resolve = True,
    json: JsonFlag = False,
) -> None:
    """Register a bundle as the next version of its model; uploads only what is new.

    What is no bundle yet becomes one on the way: its bundle.yaml is written and shown, and
    `packhorse models init` keeps it. The options win over what the bundle says.
    """
    from cloud.cli import pushing

    with (
        building.built(path, name, allow, resolve=resolve) as built,
        login.client() as registry,
    ):
        trained_in = run or built.index.metadata.get(building.MLFLOW_RUN)
        origin = describing.lineage(trained_in, commit, data, parent, trained_by)
        said = describing.statement(
            description=description, tags=tag, meta=meta, card=card, aliases=alias, origin=origin
        )
        pushed = pushing.send(registry, built, said)
    output.as_json(pushed.registered) if json else _tell(pushed, len(built.files))


def _tell(pushed: "Pushed", files: int) -> None:
    made = pushed.registered
    done = "Registered" if made.created else "Already registered"
    output.say(
        f"{done}: {counted(pushed.sent, 'file')} sent "
        f"({output.size(pushed.sent_bytes)}), {counted(files - pushed.sent, 'was', 'were')} there"
    )
    output.result(f"{made.model}:{made.version}")


@app.command()
def check(
    path: building.PathArgument,
    *,
    name: building.Name = None,
    allow: building.Allow = None,
    json: JsonFlag = False,
) -> None:
    """Build a bundle, load its model and run its own check here, without a registry.

    This runs the bundle's own code, if it has any.
    """
    import json as jsons

    from cloud.verification import here
    from runtime.errors import ModelError

    with building.built(path, name, allow) as built:
        found = here.run(built)
    if json:
        plain = {"ok": found.ok, "text": found.text, "p95_ms": found.p95_ms}
        output.result(jsons.dumps({**plain, "bundle": built.digest}, indent=2))
    else:
        _show_index(built.index, built.digest)
        output.say(found.text)
    if not found.ok:
        raise ModelError(f"check: {found.text}")


@app.command("list")
def list_models(*, sort: listing.Sort = None, json: JsonFlag = False) -> None:
    """List all models."""
    with login.client() as registry:
        found = list(registry.models(sort=sort))
    none = "No models yet: `packhorse models push DIRECTORY` registers one."
    output.as_json(found) if json else listing.show_models(found, none=none)


@app.command()
def search(
    query: listing.QueryArgument,
    *,
    sort: listing.Sort = None,
    models: Annotated[
        bool, typer.Option("--models", help="Models whose newest version fulfils it.")
    ] = False,
    number: Annotated[int, typer.Option("-n", min=1, help="How many to show at most.")] = 50,
    json: JsonFlag = False,
) -> None:
    """Find versions: `tag.task = anomaly AND input.x = FP32[-1,64] AND NOT name ~ old`."""
    import itertools

    none = "Nothing fulfils this query."
    with login.client() as registry:
        if models:
            named = list(itertools.islice(registry.models(query, sort), number))
            output.as_json(named) if json else listing.show_models(named, none=none)
        else:
            found = list(itertools.islice(registry.search(query, sort), number))
            output.as_json(found) if json else listing.show_versions(found, none=none)


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
    facts = [("bundle", found.bundle), *building.facts(parsed), *listing.said(found)]
    output.facts(facts)
    listing.show_versions(others, none="")


@app.command()
def card(model: Reference, *, json: JsonFlag = False) -> None:
    """Show the model card of a version, or else that of its model."""
    import json as jsons

    name, version = words.reference(model)
    with login.client() as registry:
        text = registry.model_card(name, version)
    output.result(jsons.dumps({"card": text}, indent=2)) if json else output.markdown(text)


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
            *building.facts(index),
            ("tags", output.labels(index.tags) or "none"),
            ("description", index.description or "none"),
        ]
    )
