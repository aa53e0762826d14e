"""`packhorse demo`."""

from pathlib import Path
from typing import Annotated

import typer

from cloud.cli.output import JsonFlag


def demo(
    devices: Annotated[int, typer.Option(min=1, max=50, help="How many agents to start.")] = 3,
    directory: Annotated[
        Path | None, typer.Option(help="Where to put everything; a temporary directory if none.")
    ] = None,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it running and print the addresses.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Show everything on this machine: registry, devices, a real model, an update, telemetry."""
    from cloud.demo import run

    raise typer.Exit(run.run(devices=devices, directory=directory, keep=keep, json=json))
