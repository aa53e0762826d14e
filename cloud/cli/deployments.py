"""`packhorse deploy` and `packhorse deployments`: list, show, cancel, retry, promote."""

from typing import Annotated

import typer

from cloud import references
from cloud.cli import candidates, login, output, words
from cloud.cli.output import JsonFlag

app = typer.Typer(no_args_is_help=True, help="Look at deployments, cancel, retry and promote them.")

MEGABYTE = 1_000_000
Id = Annotated[str, typer.Argument(metavar="DEPLOYMENT")]


def deploy(
    *,
    model: Annotated[
        str, typer.Argument(metavar="NAME[:VERSION]", help="A number or alias; the newest if none.")
    ] = "",
    to: Annotated[
        str, typer.Option(help="Which devices: 'site=lab, arch in (x86_64, aarch64)', or all.")
    ] = "",
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE", help="A deployment document; - is stdin."),
    ] = None,
    wave: Annotated[
        list[str] | None,
        typer.Option(metavar="SIZE", help="Go in waves: 5, 10% or 'site=lab'; then the rest."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="URI", help="Where inputs come from, in place of the bundle's own."),
    ] = None,
    module: Annotated[
        str | None, typer.Option(help="What applications ask for; the model's name if not given.")
    ] = None,
    name: Annotated[str, typer.Option(help="A note for people.")] = "",
    capture_inputs: Annotated[
        float, typer.Option(min=0, max=1, help="Fraction of predictions whose inputs are sent.")
    ] = 0.0,
    soak: Annotated[
        str, typer.Option(help="How long the version before stays warm: 30s, 5min.")
    ] = "30s",
    candidate: candidates.Candidate = None,
    mode: candidates.Mode = None,
    fraction: candidates.Fraction = None,
    candidate_cpu: candidates.Cpu = None,
    candidate_memory_mb: candidates.Memory = None,
    gate_requests: candidates.GateRequests = None,
    gate_agreement: candidates.GateAgreement = None,
    gate_p95_ms: candidates.GateP95Ms = None,
    gate_p95_ratio: candidates.GateP95Ratio = None,
    promote: candidates.Promote = None,
    budget_mb: Annotated[
        float | None,
        typer.Option(min=0, help="Megabytes that each device may spend on the download."),
    ] = None,
    metered: Annotated[
        bool, typer.Option(help="Download over links that cost by the byte too.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Wait until every device runs it, or gave up.")
    ] = False,
    timeout: Annotated[str, typer.Option(help="How long --watch waits.")] = "10min",
    json: JsonFlag = False,
) -> None:
    """Have a version run on all devices that match, now or when they come.

    With -f or --wave it is rolled out: in waves, behind gates, and back if it fails. `packhorse
    plan` says before what that means.

    With --watch: exit code 0 when all run it, 1 when one gave up, 4 when the time is over.
    """
    from cloud import shapes
    from cloud.cli import rolling, watching
    from runtime import messages

    beside = candidates.wish(dict(locals()))
    timeout_s = words.duration(timeout, "timeout")
    terms: dict[str, object] = {"metered": messages.METERED_ALLOW} if metered else {}
    if budget_mb is not None:
        terms["budget_bytes"] = round(budget_mb * MEGABYTE)
    if file is not None or wave:
        options = rolling.Options(
            model, to, module, name, tuple(source or ()), soak, capture_inputs, beside, terms
        )
        document = rolling.document(file, wave or [], options)
        rolling.roll_out(document, timeout_s=timeout_s if watch else None, json=json)
        return
    rolling.require(model, to)
    wanted, version = words.reference(model)
    wish = shapes.NewDeployment.make(
        model=wanted,
        version=None if version == references.LATEST else version,
        selector=to,
        module=module,
        sources=source or None,
        capture=shapes.Capture.make(inputs=capture_inputs),
        soak_s=words.duration(soak, "soak"),
        name=name,
        candidate=beside,
        download=shapes.Download.make(**terms),
    )
    with login.client() as registry:
        made = registry.deploy(wish)
        if not watch:
            output.as_json(made) if json else output.result(made.id)
            return
        output.say(f"{made.id}: {made.model}:{made.version} to {made.selector}")
        detail = watching.watch(registry, made.id, timeout_s=timeout_s)
    output.as_json(detail) if json else output.result(made.id)
    watching.raise_unless_complete(detail)


@app.command("list")
def list_deployments(
    number: Annotated[int, typer.Option("-n", min=1, help="How many, newest first.")] = 20,
    *,
    json: JsonFlag = False,
) -> None:
    """List deployments, newest first."""
    import itertools

    with login.client() as registry:
        found = list(itertools.islice(registry.deployments(), number))
    if json:
        output.as_json(found)
        return
    rows = [
        (
            each.id,
            f"{each.model}:{each.version}",
            each.selector,
            "active" if each.cancelled_at is None else "cancelled",
            output.moment(each.created_at),
            each.name,
        )
        for each in found
    ]
    output.show(
        ("deployment", "model", "to", "state", "made", "name"),
        rows,
        none="No deployments yet: `packhorse deploy NAME --to all` makes one.",
    )


@app.command()
def show(deployment: Id, *, json: JsonFlag = False) -> None:
    """Say for each device where it is with a deployment, and why."""
    from cloud.cli import watching

    with login.client() as registry:
        detail = registry.deployment(deployment)
    if json:
        output.as_json(detail)
        return
    made = detail.deployment
    state = "active" if made.cancelled_at is None else "cancelled"
    output.result(f"{made.id}: {made.model}:{made.version} to {made.selector} ({state})")
    output.result(watching.summary(detail))
    if made.candidate is not None:
        output.result(candidates.described(made.candidate))
    output.show(watching.COLUMNS, watching.rows(detail), none="No device matches.")


@app.command()
def watch(
    deployment: Id,
    timeout: Annotated[str, typer.Option(help="How long to wait.")] = "10min",
    *,
    json: JsonFlag = False,
) -> None:
    """Wait until every device runs a deployment (exit 0), or gave up (1), or time is over (4)."""
    from cloud.cli import watching

    with login.client() as registry:
        detail = watching.watch(registry, deployment, timeout_s=words.duration(timeout, "timeout"))
    if json:
        output.as_json(detail)
    watching.raise_unless_complete(detail)


@app.command()
def cancel(deployment: Id, *, json: JsonFlag = False) -> None:
    """Withdraw a deployment: on each device the one before decides again."""
    with login.client() as registry:
        made = registry.cancel(deployment)
    output.as_json(made) if json else output.result(f"{made.id}: cancelled")


@app.command()
def retry(deployment: Id, *, json: JsonFlag = False) -> None:
    """Have devices that refused a version try it again."""
    with login.client() as registry:
        made = registry.retry(deployment)
    output.as_json(made) if json else output.result(f"{made.id}: attempt {made.attempt}")


@app.command("promote")
def promote_candidate(deployment: Id, *, json: JsonFlag = False) -> None:
    """Make a deployment's candidate its version, on every device."""
    with login.client() as registry:
        made = registry.promote(deployment)
    output.as_json(made) if json else output.result(f"{made.id}: {made.model}:{made.version}")
