"""`packhorse models export` and `import`: versions in one file, for sites that no wire reaches."""

import json as jsons
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cloud.cli import login, output, words
from cloud.cli.output import JsonFlag


def export(
    models: Annotated[list[str], typer.Argument(metavar="NAME[:VERSION]...")],
    target: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    *,
    json: JsonFlag = False,
) -> None:
    """Write versions, whole, into one file: for `models import` and `packhorse-agent apply`."""
    from cloud.airgap import exporting

    references = [words.reference(model) for model in models]
    with login.client() as registry:
        made = exporting.export(registry, references, target)
    if json:
        output.result(jsons.dumps(asdict(made), indent=2))
        return
    output.result(f"{target}: {', '.join(made.versions)} ({output.size(made.size_bytes)})")


def load(
    file: Annotated[Path, typer.Argument(help="A file that `packhorse models export` wrote.")],
    *,
    json: JsonFlag = False,
) -> None:
    """Register the versions of a file; those that are here already stay what they are."""
    from cloud.airgap import importing

    with login.client() as registry:
        done = importing.load(registry, file)
    if json:
        output.result(jsons.dumps([asdict(each) for each in done], indent=2))
        return
    for each in done:
        what = "registered" if each.created else "here already"
        output.result(f"{each.model}:{each.version} {what} (there {each.origin})")
