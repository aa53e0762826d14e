"""`packhorse telemetry`: tail, stats."""

from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import login, output, words
from cloud.cli.output import JsonFlag

if TYPE_CHECKING:
    from cloud import shapes

app = typer.Typer(no_args_is_help=True, help="Look at what devices recorded.")

POLL_S = 1.0
PAGE = 500
SHOWN_CHARS = 100


@app.command()
def tail(
    model: Annotated[
        str | None, typer.Option(help="Only this model, NAME or NAME:VERSION.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Only this device.")] = None,
    number: Annotated[
        int, typer.Option("-n", min=0, max=1000, help="Show so many that were there before.")
    ] = 10,
    *,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Go on as records arrive.")
    ] = True,
    json: JsonFlag = False,
) -> None:
    """Show the newest records, then each that arrives. --json prints one object on a line."""
    import threading

    name, version = words.reference(model) if model else (None, "latest")
    query = {"model": name, "version": words.version_number(version), "device": device}
    show = output.json_line if json else _show
    tick = threading.Event()
    with login.client() as registry:
        # At least one is asked for, to know where to go on.
        found = registry.records(**query, newest=True, limit=max(1, number)).items
        after = found[-1].id if found else 0
        for record in found[len(found) - min(number, len(found)) :]:
            show(record)
        while follow:
            page = registry.records(**query, cursor=after, limit=PAGE)
            for record in page.items:
                show(record)
                after = record.id
            if page.next is None:
                tick.wait(POLL_S)


@app.command()
def stats(
    model: Annotated[str, typer.Option(help="Name of the model.")],
    since: Annotated[
        str | None, typer.Option(help="Only what was recorded in the last 10min, 2h, 7d.")
    ] = None,
    *,
    json: JsonFlag = False,
) -> None:
    """Show what each version of a model did, over all devices."""
    import time

    start = None if since is None else time.time() - words.duration(since, "since")
    with login.client() as registry:
        found = registry.stats(model, since=start)
    if json:
        output.as_json(found)
        return
    rows = [
        (
            f"{each.model}:{each.version}",
            str(each.records),
            str(each.devices),
            str(each.errors),
            f"{each.latency_p50_ms:.2f}",
            f"{each.latency_p95_ms:.2f}",
            f"{each.latency_mean_ms:.2f}",
            output.moment(each.first_at),
            output.moment(each.last_at),
        )
        for each in found.versions
    ]
    columns = ("version", "records", "devices", "errors", "p50 ms", "p95 ms", "mean ms")
    output.show((*columns, "first", "last"), rows, none=f"No records of {model} yet.")


def _show(record: "shapes.Record") -> None:
    import json as jsons

    what = record.error or jsons.dumps(record.outputs, separators=(",", ":"))
    if len(what) > SHOWN_CHARS:
        what = what[: SHOWN_CHARS - 3] + "..."
    about = "~" if record.time_estimated else ""
    output.result(
        f"{about}{output.moment(record.at)}  {record.device}  {record.model}:{record.version}  "
        f"{record.latency_ms:.2f} ms  {record.item or '-'}  {what}"
    )
