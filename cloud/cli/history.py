"""`packhorse events` and `packhorse history`: who did what when, and what ran where."""

import datetime as dt
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloud.cli import login, output, words
from cloud.cli.output import JsonFlag
from runtime.errors import InvalidError

if TYPE_CHECKING:
    from cloud import shapes

SHOWN_CHARS = 100
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")


def events(
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Only these: deployment.created, device.*"),
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="Only of this device, model, version, deployment...")
    ] = None,
    number: Annotated[
        int, typer.Option("-n", min=0, max=200, help="Show so many that were there before.")
    ] = 20,
    *,
    after: Annotated[
        int | None, typer.Option(min=0, help="Show all with higher ids instead.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as events happen.")] = False,
    json: JsonFlag = False,
) -> None:
    """Show who did what when. --json prints one object on a line.

    --follow goes on by itself, without a gap, when the registry is away for a while.
    """
    show = output.json_line if json else _show
    with login.client() as registry:
        query: dict[str, Any] = {"kind": kind or None, "subject": subject}
        last = registry.newest_events(1)
        place = last[-1].id if last else 0
        if after is not None:
            found = registry.events(after=after, **query)
        else:
            found = iter(registry.newest_events(number, **query) if number else ())
        for event in found:
            show(event)
            place = max(place, event.id)
        if follow:
            for event in registry.follow(place, **query):
                show(event)


def history(
    device: Annotated[str | None, typer.Option(help="Only on this device.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Only this model, NAME or NAME:VERSION.")
    ] = None,
    deployment: Annotated[str | None, typer.Option(help="Only by this deployment.")] = None,
    at: Annotated[
        str | None,
        typer.Option(help="What ran then: 2026-05-01T12:00Z, or a time in your own zone."),
    ] = None,
    number: Annotated[int, typer.Option("-n", min=1, help="How many, newest first.")] = 50,
    *,
    service: Annotated[
        str | None, typer.Option(help="What had traffic of this service; '*': of any.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Show what ran where, from when to when, by whose act.

    A time with ~ is when the registry heard of it, since the device had no clock. With --at, a
    device that was not heard from at that time is said to be so. With --service: which revision had
    which share of its traffic.
    """
    import itertools

    name, version = words.reference(model) if model else (None, "latest")
    if service is not None:
        if device is not None or deployment is not None:
            raise InvalidError("service", service, "leave out --device and --deployment")
        asked = {"model": name, "version": words.version_number(version)}
        _history_of(None if service == "*" else service, asked, at=at, number=number, json=json)
        return
    query = {
        "device": device,
        "model": name,
        "version": words.version_number(version),
        "deployment": deployment,
    }
    with login.client() as registry:
        if at is not None:
            moments = list(itertools.islice(registry.moment(moment(at), **query), number))
            output.as_json(moments) if json else _show_moments(moments)
            return
        runs = list(itertools.islice(registry.runs(**query), number))
    output.as_json(runs) if json else _show_runs(runs)


def _history_of(
    service: str | None, asked: dict[str, Any], *, at: str | None, number: int, json: bool
) -> None:
    import itertools

    then = None if at is None else moment(at)
    with login.client() as registry:
        shares = registry.service_runs(service=service, at=then, **asked)
        found = list(itertools.islice(shares, number))
    output.as_json(found) if json else _show_shares(found)


def moment(text: str) -> float:
    """Return seconds since 1970 of a time in ISO 8601, or of such a number."""
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidError("at", text, "write a time such as 2026-05-01T12:00Z") from error
    return found.timestamp()  # one without a zone is in this machine's


def _show_runs(found: "list[shapes.Run]") -> None:
    rows = [(each.device, *_columns(each), _end(each)) for each in found]
    columns = ("device", "module", "runs", "from", "until", "deployment", "by", "end")
    output.show(columns, rows, none="Nothing has run yet.")


def _show_shares(found: "list[shapes.ServiceRun]") -> None:
    rows = [
        (
            each.service,
            each.revision,
            f"{each.model}:{each.version}",
            f"{each.weight} %",
            output.moment(each.from_at),
            "" if each.until_at is None else output.moment(each.until_at),
            each.place,
            each.actor,
            each.ended_reason,
        )
        for each in found
    ]
    columns = ("service", "revision", "serves", "traffic", "from", "until", "on", "by", "end")
    output.show(columns, rows, none="No service had traffic.")


def _show_moments(found: "list[shapes.Moment]") -> None:
    rows = [
        (each.device, _heard(each), *columns)
        for each in found
        for columns in [_columns(run) for run in each.runs] or [_nothing(each)]
    ]
    columns = ("device", "known", "module", "runs", "from", "until", "deployment", "by")
    output.show(columns, rows, none="No device was there at that time, or none ran it.")


def _columns(run: "shapes.Run") -> tuple[str, ...]:
    until = "" if run.until_at is None else output.moment(run.until_at)
    return (
        run.module,
        f"{run.model}:{run.version}",
        ("~" if run.from_estimated else "") + output.moment(run.from_at),
        ("~" if run.until_estimated and until else "") + until,
        run.deployment or "not known",
        run.actor or "not known",
    )


def _end(run: "shapes.Run") -> str:
    if run.until_at is None:
        return f"last heard {output.moment(run.last_heard)}"
    return run.ended_reason


def _heard(found: "shapes.Moment") -> str:
    if found.heard == "heard":
        return "yes"
    if found.heard == "silent":
        return f"not heard from: last heard {output.moment(found.last_heard)}"
    return "no: never heard from by then"


def _nothing(found: "shapes.Moment") -> tuple[str, ...]:
    return ("", "nothing" if found.heard == "heard" else "not known", "", "", "", "")


def _show(event: "shapes.Event") -> None:
    import json as jsons

    what = jsons.dumps(event.data, separators=(",", ":"))
    if len(what) > SHOWN_CHARS:
        what = what[: SHOWN_CHARS - 3] + "..."
    line = f"{event.id}  {output.moment(event.at)}  {event.actor}  {event.kind}  {event.subject}"
    output.result(output.plain(f"{line}  {what}"))
