"""`packhorse release`: from a trained model to where it answers, in one command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloud.cli import building, describing, login, output, words
from cloud.cli import service_options as options
from cloud.cli.output import JsonFlag

if TYPE_CHECKING:
    from cloud.releasing.plan import ServiceWish

Gates = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        metavar="CONDITION",
        help="Must be true before anything is registered: check, 'p95_ms<=20', 'size_mb<=50',"
        " 'metadata.accuracy>=0.9', 'metadata.accuracy>=@champion'. Repeat it.",
    ),
]


def release(  # noqa: PLR0917 - options, each by name
    path: building.PathArgument,
    name: building.Name = None,
    allow: building.Allow = None,
    to: Annotated[str | None, typer.Option(help="Which devices: 'site=lab', or all.")] = None,
    service: Annotated[str | None, typer.Option(help="Which service shall serve it.")] = None,
    target: Annotated[
        str | None,
        typer.Option(help="docker or kubernetes: where the service is made, if it is new."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="docker: a host of the registry's.")] = None,
    context: Annotated[str | None, typer.Option(help="kubernetes: a context.")] = None,
    namespace: Annotated[str | None, typer.Option(help="kubernetes: a namespace.")] = None,
    gate: Gates = None,
    alias: describing.Aliases = None,
    description: describing.Description = None,
    tag: describing.Tags = None,
    meta: describing.Meta = None,
    card: describing.Card = None,
    run: describing.Run = None,
    commit: describing.Commit = None,
    data: describing.Data = None,
    parent: describing.Parent = None,
    trained_by: describing.TrainedBy = None,
    cpu: options.Cpu = None,
    memory: options.Memory = None,
    gpus: options.Gpus = None,
    replicas: options.Replicas = None,
    least: options.Least = None,
    most: options.Most = None,
    base_image: options.BaseImage = None,
    strategy: options.StrategyKind = None,
    steps: options.Steps = None,
    step_time: options.StepTime = None,
    progress_time: options.ProgressTime = None,
    min_requests: options.MinRequests = None,
    max_error_rate: options.MaxErrorRate = None,
    max_p95_ratio: options.MaxP95Ratio = None,
    silence: options.Silence = None,
    on_silence: options.OnSilence = None,
    port: options.Port = None,
    anonymous: options.Anonymous = None,
    soak: Annotated[
        str, typer.Option(help="How long devices keep the version before warm.")
    ] = "30s",
    timeout: Annotated[str, typer.Option(help="How long all of it may take.")] = "30min",
    summary: Annotated[
        Path | None,
        typer.Option(help="Append the summary, in Markdown: '$GITHUB_STEP_SUMMARY'."),
    ] = None,
    *,
    json: JsonFlag = False,
) -> None:
    """Check a model, register it, serve it, deploy it to devices, and see that it answers there.

    Prints what was done, in Markdown (--json: as JSON). Exit code 0 only when all of it is true.
    Run it again, and it goes on: what is done is not done twice. Each step is a command of its own:
    models check, models push, services deploy or update, deploy, models verify, models alias.
    """
    from cloud.cli.release_steps import Release
    from cloud.releasing import gates, report
    from cloud.releasing.plan import Plan

    given = dict(locals())
    wanted = [gates.parse(text) for text in gate or ()]
    origin = describing.lineage(run, commit, data, parent, trained_by)
    said = describing.statement(
        description=description, tags=tag, meta=meta, card=card, aliases=None, origin=origin
    )
    wish = None if service is None else _service(service, given)
    with building.built(path, name, allow) as built:
        plan = Plan(
            built,
            said,
            wanted,
            wish,
            to,
            alias or (),
            soak_s=words.duration(soak, "soak"),
            timeout_s=words.duration(timeout, "timeout"),
        )
        ended = Release(plan, login.client, output.say).run()
    text = report.markdown(ended.report)
    output.result(report.as_json(ended.report) if json else text)
    if summary is not None:
        with summary.open("a", encoding="utf-8") as file:
            file.write(text)
    if ended.error is not None:
        raise ended.error


_LEFT_OUT = (
    "cpu_percent", "env", "secret", "node_selector", "soak", "max_error_excess",
    "mirror_fraction", "bind", "capture", "request_timeout", "max_body", "gateways", "route_host",
    "route_gateway", "ingress_class", "tls_secret", "bundle",
)  # fmt: skip
"""Options of `services update` that a release leaves as they are."""


def _service(name: str, given: dict[str, Any]) -> "ServiceWish":
    from cloud.releasing.plan import ServiceWish

    given = {**given, **dict.fromkeys(_LEFT_OUT)}
    target = given["target"]
    place = {"kind": target, **{key: given[key] for key in ("host", "context", "namespace")}}
    changes = {
        "strategy": options.strategy(given),
        **options.revision(given, {}),
        **options.service(given, {}),
    }
    return ServiceWish(name, None if target is None else place, changes)
