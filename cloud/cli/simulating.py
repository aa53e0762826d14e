"""`packhorse simulate`."""

import contextlib
import json as jsons
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import login, output
from cloud.cli.output import JsonFlag
from runtime.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MOST_DEVICES = 20_000
LEAST_DEPLOYMENTS = 2


def simulate(
    *,
    devices: Annotated[int, typer.Option(min=1, max=MOST_DEVICES, help="How many.")] = 100,
    registry: Annotated[
        str | None,
        typer.Option(help="URL of a registry that runs already; without it, one is started."),
    ] = None,
    token: Annotated[
        list[str] | None,
        typer.Option(help="For that registry, one for each device; else made by your login."),
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FRACTION of the devices that have latency, loss, satellite, 3g, cut, "
            "off-on, reboot, reboot-storm, failing-check, slow-disk, disk-full or clock-jump."
        ),
    ] = None,
    restart: Annotated[
        list[str] | None,
        typer.Option(help="Kill the broker or the registry amid the second deployment."),
    ] = None,
    records_per_s: Annotated[
        float,
        typer.Option(min=0.0, max=100.0, help="Predictions of which each device tells."),
    ] = 0.0,
    deployments: Annotated[
        int,
        typer.Option(
            min=LEAST_DEPLOYMENTS, max=10, help="Versions that are deployed one after the other."
        ),
    ] = LEAST_DEPLOYMENTS,
    processes: Annotated[
        int | None, typer.Option(min=1, help="How many hold the devices; default: by their number.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed has the same faults.")] = 0,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds after which it ends.")] = 300.0,
    json: JsonFlag = False,
) -> None:
    """Run many device agents that speak the real protocol; drivers alone are imitated.

    Without --registry, a first and a second version are deployed to them. The exit code is 0 only
    if every device ended on what it shall run.
    """
    from cloud.simulation import plan, report, weather
    from cloud.simulation.run import Wish, run

    fractions = plan.parse_profiles(profile or ())
    plan.processes(devices, 1, processes)
    restarts = weather.parse_restarts(restart or ())
    if restarts and registry is not None:
        raise InvalidError("restart", restarts[0], "leave out --registry: that one is not ours")
    if deployments > LEAST_DEPLOYMENTS and registry is not None:
        raise InvalidError("deployments", deployments, "leave out --registry: none is made there")
    wish = Wish(
        devices=devices,
        profiles=fractions,
        seed=seed,
        processes=processes,
        timeout_s=timeout,
        registry=registry,
        restarts=restarts,
        records_per_s=records_per_s,
        deployments=deployments,
        tokens=_tokens(registry, devices, token or ()),
    )
    with _stoppable():
        found = run(wish, output.say)
    if json:
        output.result(jsons.dumps(found))
    else:
        _show(found)
    raise typer.Exit(0 if report.is_good(found) else 1)


@contextlib.contextmanager
def _stoppable() -> "Iterator[None]":
    """Have Ctrl-C and SIGTERM end all that was started, and say so."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    # SIGINT too: it is ignored in whatever a script has put into the background.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:
        output.say("stopped: nothing was counted")
        raise typer.Exit(1) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tokens(registry: str | None, devices: int, given: "Sequence[str]") -> tuple[str, ...]:
    if registry is None:
        if given:
            raise InvalidError("token", f"{len(given)} tokens", "give them with --registry alone")
        return ()
    if given:
        if len(given) != devices:
            fix = f"give one for each of {devices} devices: each token works once"
            raise InvalidError("token", f"{len(given)} tokens", fix)
        return tuple(given)
    from cloud.simulation import plan
    from cloud.simulation.run import tokens_of

    current = login.current()
    if current.url != registry.rstrip("/"):
        raise InvalidError("registry", registry, f"you are logged in to {current.url}; give tokens")
    with login.client() as client:
        return tokens_of(client, plan.names(devices))


def _show(found: "Mapping[str, object]") -> None:
    for name, value in found.items():
        output.result(f"{name}: {jsons.dumps(value)}")
