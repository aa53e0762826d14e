"""`packhorse`: the command line of operators.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 bad input, 3 not
found, 4 time-out, 5 registry unreachable. Heavy modules are imported by the commands that need
them, so that `packhorse --help` is quick.
"""

import importlib.metadata
import logging
import os
import sys
from typing import Annotated

import typer

from cloud.cli import (
    backup,
    deltas,
    demo,
    deployments,
    devices,
    foretelling,
    gc,
    history,
    imagelogins,
    keys,
    login,
    models,
    output,
    releasing,
    rollouts,
    serve,
    services,
    simulating,
    telemetry,
    webhooks,
)
from cloud.cli.output import JsonFlag
from cloud.errors import AbsentError, ClientError, LoginError, NotFoundError, WaitError
from runtime.errors import InvalidError, LinkError, PackhorseError

log = logging.getLogger(__name__)

FAILED, BAD_INPUT, NOT_FOUND, TIMED_OUT, UNREACHABLE = 1, 2, 3, 4, 5
BAD_INPUT_STATUS = frozenset({400, 413, 415, 422})
DEBUG = "PACKHORSE_DEBUG"

app = typer.Typer(
    name="packhorse",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(serve.serve)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(gc.gc)
app.command()(login.login)
app.add_typer(models.app, name="models")
app.add_typer(devices.app, name="devices")
app.add_typer(keys.app, name="keys")
app.command()(deployments.deploy)
app.command()(foretelling.plan)
app.command()(foretelling.explain)
app.command()(releasing.release)
app.add_typer(deployments.app, name="deployments")
app.add_typer(rollouts.app, name="rollouts")
app.add_typer(services.app, name="services")
app.add_typer(deltas.app, name="delta")
app.add_typer(telemetry.app, name="telemetry")
app.command()(history.events)
app.command()(history.history)
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(imagelogins.app, name="image-logins")
app.command()(demo.demo)
app.command()(simulating.simulate)


@app.command()
def version(*, json: JsonFlag = False) -> None:
    """Print the version."""
    number = importlib.metadata.version("packhorse")
    output.result(f'{{"version": "{number}"}}' if json else number)


def _version_asked(*, asked: bool) -> None:
    if asked:
        version(json=False)
        raise typer.Exit


@app.callback()
def packhorse(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_version_asked, help="Show it and exit."),
    ] = False,
) -> None:
    """Deploy machine-learning models to the edge."""


def exit_code(error: PackhorseError) -> int:
    """Return what a script shall see of an error."""
    match error:
        case AbsentError() | NotFoundError():
            return NOT_FOUND
        case ClientError():
            return BAD_INPUT if error.status in BAD_INPUT_STATUS else FAILED
        case InvalidError() | LoginError():
            return BAD_INPUT
        case WaitError():
            return TIMED_OUT
        case LinkError():
            return UNREACHABLE
        case _:
            return FAILED


def main() -> None:
    """Run a command; every error is one clear line."""
    try:
        app()
    except PackhorseError as error:
        output.say(f"packhorse: {error}")
        sys.exit(exit_code(error))
    except OSError as error:
        output.say(f"packhorse: {error}")
        sys.exit(FAILED)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        output.say(f"packhorse: a bug: {type(error).__name__}: {error} ({DEBUG}=1 shows where)")
        sys.exit(FAILED)
