"""`packhorse services traffic`, `promote`, `rollback` and `scale`."""

from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import login, output, words
from cloud.cli import service_options as options
from cloud.cli.output import JsonFlag
from runtime.errors import InvalidError

if TYPE_CHECKING:
    from cloud import shapes

Watch = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]
Timeout = Annotated[str, typer.Option(help="How long --wait waits.")]


def traffic(
    service: options.Service,
    weights: Annotated[
        list[str] | None, typer.Argument(metavar="REVISION=PERCENT...", help="r3=90 r4=10")
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(metavar="REVISION", help="Send it copies, and compare; none: no more."),
    ] = None,
    mirror_fraction: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of how many requests.")
    ] = None,
    *,
    wait: Watch = True,
    timeout: Timeout = "15min",
    json: JsonFlag = False,
) -> None:
    """Share the traffic: each revision gets its percentage as soon as all of them are ready."""
    from cloud import shapes

    if not weights and mirror is None:
        raise InvalidError("traffic", "", "write REVISION=PERCENT, such as r3=90 r4=10")
    wish = shapes.NewTraffic.make(
        weights=_weights(weights) if weights else None,
        mirror=mirror,
        mirror_fraction=mirror_fraction,
    )
    timeout_s = words.duration(timeout, "timeout")
    with login.client() as registry:
        made = registry.set_traffic(service, wish)
        _finish(made, timeout_s=timeout_s if wait else None, json=json)


def promote(
    service: options.Service,
    *,
    wait: Watch = True,
    timeout: Timeout = "15min",
    json: JsonFlag = False,
) -> None:
    """Give the newest revision that runs all the traffic, whatever its strategy waits for."""
    timeout_s = words.duration(timeout, "timeout")
    with login.client() as registry:
        made = registry.promote_service(service)
        _finish(made, timeout_s=timeout_s if wait else None, json=json)


def rollback(
    service: options.Service,
    to: Annotated[
        str | None, typer.Option(metavar="REVISION", help="Which; the one before if none.")
    ] = None,
    *,
    wait: Watch = True,
    timeout: Timeout = "15min",
    json: JsonFlag = False,
) -> None:
    """Go back to where the traffic was before, or to a revision."""
    from cloud import shapes

    timeout_s = words.duration(timeout, "timeout")
    with login.client() as registry:
        made = registry.roll_service_back(service, shapes.NewRollback.make(to=to))
        _finish(made, timeout_s=timeout_s if wait else None, json=json)


def scale(
    service: options.Service,
    replicas: options.Replicas = None,
    least: options.Least = None,
    most: options.Most = None,
    cpu_percent: options.CpuPercent = None,
    *,
    revision: Annotated[
        str | None, typer.Option(metavar="REVISION", help="Which; all that run if none.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Have so many replicas; --min and --max let Kubernetes choose by load."""
    from cloud import shapes

    asked = options.scale(
        {"replicas": replicas, "least": least, "most": most, "cpu_percent": cpu_percent}
    )
    given = {name: value for name, value in asked.items() if value is not None}
    if not given:
        raise InvalidError("replicas", None, "say how many, or give --min and --max")
    wish = shapes.NewScale.make(scale=given, revision=revision)
    with login.client() as registry:
        made = registry.scale_service(service, wish)
        _finish(made, timeout_s=None, json=json)


def _weights(texts: list[str]) -> dict[str, int]:
    found = {}
    for name, text in options.variables(texts, "traffic").items():
        digits = text.removesuffix("%")
        if not digits.isascii() or not digits.isdigit():
            raise InvalidError("traffic", f"{name}={text}", "write REVISION=PERCENT, such as r3=90")
        found[name] = int(digits)
    return found


def _finish(made: "shapes.ServiceDetail", *, timeout_s: float | None, json: bool) -> None:
    """Wait if that is wanted, and say how it ended."""
    from cloud.cli import service_watching as watching

    detail = made
    if timeout_s is not None:
        with login.client() as registry:
            detail = watching.wait(registry, made.name, revision=made.current, timeout_s=timeout_s)
    if json:
        output.as_json(detail)
    else:
        shares = watching.weights(detail.traffic)
        output.result(f"{detail.name}: {shares} ({output.plain(watching.progress(detail))})")
    if timeout_s is not None:
        watching.raise_unless_up(detail, made.current)
