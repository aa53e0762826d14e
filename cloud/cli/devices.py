"""`packhorse devices`: token, list, show, label, revoke; and what remote.py adds."""

from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import candidates, login, output, remote, words
from cloud.cli.output import JsonFlag

if TYPE_CHECKING:
    from cloud import shapes

app = typer.Typer(no_args_is_help=True, help="Enrol devices and look at them.")

Id = Annotated[str, typer.Argument(metavar="DEVICE")]

for command in (remote.logs, remote.support, remote.restart, remote.infer):
    app.command()(command)
app.command("exec")(remote.execute)
app.command("update-agent")(remote.update_agent)
app.command("registry-login")(remote.registry_login)


@app.command()
def token(
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", metavar="KEY=VALUE", help="Label for the new device."),
    ] = None,
    ttl: Annotated[str, typer.Option(help="How long it works: 30min, 1h, 7d at most.")] = "1h",
    device: Annotated[
        str | None, typer.Option(help="The one id that it may enrol, be it again.")
    ] = None,
    *,
    json: JsonFlag = False,
) -> None:
    """Make a token that enrols one device, once: `packhorse-agent enrol --token ...`."""
    from cloud import shapes

    wish = shapes.NewToken.make(
        labels=words.pairs(label or [], "label"),
        ttl_s=words.duration(ttl, "ttl"),
        device_id=device,
    )
    with login.client() as registry:
        made = registry.make_token(wish)
    if json:
        output.as_json(made)
        return
    output.result(made.token)
    output.say(f"Works once, until {output.moment(made.expires_at)}.")


@app.command("list")
def list_devices(
    selector: Annotated[
        str | None, typer.Option("--to", help="Only those that match, e.g. 'site=lab, !old'.")
    ] = None,
    *,
    json: JsonFlag = False,
) -> None:
    """List devices."""
    with login.client() as registry:
        found = list(registry.devices(selector))
    if json:
        output.as_json(found)
        return
    rows = [
        (
            each.id,
            _presence(each),
            output.moment(each.last_seen),
            ", ".join(_running(module) for module in each.modules),
            output.labels(each.labels),
        )
        for each in found
    ]
    output.show(
        ("device", "presence", "last seen", "runs", "labels"),
        rows,
        none="No devices: `packhorse devices token` makes a token to enrol one with.",
    )


@app.command()
def show(device: Id, *, json: JsonFlag = False) -> None:
    """Show a device: what it runs, what it said, what it is."""
    with login.client() as registry:
        found = registry.device(device)
    if json:
        output.as_json(found)
        return
    output.facts(
        [
            ("device", found.id),
            ("presence", _presence(found)),
            ("last seen", output.moment(found.last_seen)),
            ("labels", output.labels(found.labels) or "none"),
            ("facts", output.labels(found.facts) or "none"),
            ("vitals", ", ".join(f"{k}={v:g}" for k, v in sorted(found.vitals.items()))),
            ("dropped", ", ".join(f"{k}={v}" for k, v in sorted(found.drops.items())) or "none"),
            ("troubles", "; ".join(found.troubles) or "none"),
            ("generation", f"{found.reported_generation} of {found.generation}"),
            ("certificate until", output.moment(found.certificate_not_after)),
        ]
    )
    rows = [
        (
            each.name,
            f"{each.model}:{each.version}",
            each.phase,
            _running(each),
            _transfer(each),
            "; ".join(filter(None, (each.reason, candidates.state(each.candidate)))),
        )
        for each in found.modules
    ]
    columns = ("module", "wanted", "phase", "runs", "downloaded", "reason")
    output.show(columns, rows, none="No modules.")


@app.command()
def label(
    device: Id,
    changes: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE|KEY-", help="KEY- removes a label.")
    ],
    *,
    json: JsonFlag = False,
) -> None:
    """Set or remove labels; what the device shall run follows at once."""
    from cloud import shapes

    wish = shapes.LabelChanges.make(labels=words.label_changes(changes))
    with login.client() as registry:
        found = registry.set_labels(device, wish)
    if json:
        output.as_json(found)
    else:
        output.result(f"{found.id}: {output.labels(found.labels) or 'no labels'}")


@app.command()
def revoke(
    device: Id,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonFlag = False,
) -> None:
    """Shut a device out: it can no longer connect. A token for its id can enrol it again."""
    if not yes:
        typer.confirm(f"Shut {device} out?", abort=True, err=True)
    with login.client() as registry:
        found = registry.revoke(device)
    if json:
        output.as_json(found)
    else:
        output.result(f"{found.id}: revoked")


def _presence(device: "shapes.Device") -> str:
    return device.presence if device.revoked_at is None else "revoked"


def _transfer(module: "shapes.ModuleState") -> str:
    """Return the bytes that came for a module's bundle, from whom, and what deltas saved."""
    cost = module.transfer
    if cost is None:
        return ""
    came = cost.received_bytes + cost.neighbour_bytes
    saved = 1 - came / cost.whole_bytes if cost.whole_bytes else 0.0
    said = [f"{cost.received_bytes / 1024:.0f} KiB"]
    said += [f"{cost.neighbour_bytes / 1024:.0f} KiB from neighbours"] * bool(cost.neighbour_bytes)
    said += [f"{saved:.0%} saved"] * (saved > 0)
    return ", ".join(said)


def _running(module: "shapes.ModuleState") -> str:
    running = module.running
    return f"{module.name}: nothing" if running is None else f"{running.model}:{running.version}"
