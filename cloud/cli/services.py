"""`packhorse services`: list, show, logs, delete, places; more in its neighbours."""

import threading
import time
from typing import Annotated

import typer

from cloud.cli import (
    building_images,
    login,
    output,
    service_deploying,
    service_exporting,
    service_keys,
    service_traffic,
    words,
)
from cloud.cli import service_options as options
from cloud.cli.output import JsonFlag
from cloud.errors import AbsentError, WaitError

app = typer.Typer(no_args_is_help=True, help="Serve models on Docker and Kubernetes.")
app.command()(service_deploying.deploy)
app.command()(service_deploying.update)
app.command()(service_exporting.export)
app.command()(service_traffic.traffic)
app.command()(service_traffic.promote)
app.command()(service_traffic.rollback)
app.command()(service_traffic.scale)
app.command()(building_images.build)
app.add_typer(service_keys.app, name="keys")

POLL_S = 0.5


@app.command("list")
def list_services(*, json: JsonFlag = False) -> None:
    """List services."""
    from cloud.cli import service_watching as watching

    with login.client() as registry:
        found = list(registry.services())
        strays = [(place, name) for place in registry.places() for name in place.strays]
    if json:
        output.as_json(found)
        return
    rows = [
        (
            each.name,
            each.place,
            each.condition,
            watching.weights(each.traffic),
            "" if each.rollout is None else f"{each.rollout.strategy}: {each.rollout.phase}",
            ", ".join(each.endpoints),
        )
        for each in found
    ]
    columns = ("service", "on", "state", "traffic", "under way", "endpoint")
    output.show(
        columns,
        rows,
        none="No services yet: `packhorse services deploy NAME --bundle MODEL --target docker`.",
    )
    for place, name in strays:
        output.say(f"{output.plain(name)} on {place.target.kind} is not this registry's.")


@app.command()
def show(service: options.Service, *, json: JsonFlag = False) -> None:
    """Show a service, its revisions, and why they are as they are."""
    from cloud.cli import service_watching as watching

    with login.client() as registry:
        detail = registry.service(service)
    output.as_json(detail) if json else watching.show(detail)


@app.command()
def logs(
    service: options.Service,
    revision: Annotated[
        str | None, typer.Option(metavar="REVISION", help="Of this one alone, such as r3.")
    ] = None,
    tail: Annotated[
        int, typer.Option("-n", "--tail", min=0, max=1000, help="Of each replica, so many.")
    ] = 100,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they write.")] = False,
    json: JsonFlag = False,
) -> None:
    """Show what the replicas of a service write. --json prints one object on a line."""
    with login.client() as registry:
        query = {"revision": revision, "tail": tail}
        found = (
            registry.follow_logs(service, **query)
            if follow
            else iter(registry.service_logs(service, **query))
        )
        for line in found:
            if json:
                output.json_line(line)
            else:
                output.result(output.plain(f"{line.replica}  {line.text}"))


@app.command()
def delete(
    service: options.Service,
    *,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="Do not wait for where it runs: what is left there stays."),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is gone.")] = True,
    timeout: Annotated[str, typer.Option(help="How long --wait waits.")] = "5min",
) -> None:
    """Remove a service and all that was made for it."""
    deadline = time.monotonic() + words.duration(timeout, "timeout")
    tick = threading.Event()
    with login.client() as registry:
        registry.remove_service(service, forget=forget)
        while wait:
            try:
                found = registry.service(service)
            except AbsentError:
                break
            if time.monotonic() >= deadline:
                raise WaitError(f"{service} is still being removed: {output.plain(found.trouble)}")
            tick.wait(POLL_S)
    output.say(f"{service} is {'removed' if wait else 'being removed'}.")


@app.command()
def places(*, json: JsonFlag = False) -> None:
    """List the places where services run, and what is there that is not the registry's."""
    with login.client() as registry:
        found = registry.places()
    if json:
        output.as_json(found)
        return
    rows = [
        (
            "/".join(filter(None, each.target.model_dump().values())),
            output.moment(each.checked_at),
            each.trouble or "answers",
            ", ".join(each.strays) or "none",
        )
        for each in found
    ]
    output.show(("place", "asked", "state", "services of others"), rows, none="No services yet.")
