"""`packhorse services deploy` and `update`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloud.cli import login, output, service_keys, words
from cloud.cli import service_exporting as exporting
from cloud.cli import service_options as options
from cloud.cli.output import JsonFlag
from runtime.errors import InvalidError

if TYPE_CHECKING:
    from cloud import shapes
    from cloud.client import Client

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]
Timeout = Annotated[str, typer.Option(help="How long --wait waits.")]
NOTHING = "It is so already: nothing changes."


def deploy(  # noqa: PLR0917 - options, each by name
    service: options.Service,
    bundle: options.Bundle = None,
    target: Annotated[str | None, typer.Option(help="docker or kubernetes.")] = None,
    host: Annotated[
        str | None, typer.Option(help="docker: an engine of the registry's docker_hosts.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="kubernetes: a context of the registry's kubeconfig.")
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="kubernetes: where in the cluster.")] = None,
    cpu: options.Cpu = None,
    memory: options.Memory = None,
    gpus: options.Gpus = None,
    replicas: options.Replicas = None,
    least: options.Least = None,
    most: options.Most = None,
    cpu_percent: options.CpuPercent = None,
    env: options.Env = None,
    secret: options.Secret = None,
    node_selector: options.NodeSelector = None,
    base_image: options.BaseImage = None,
    strategy: options.StrategyKind = None,
    steps: options.Steps = None,
    step_time: options.StepTime = None,
    soak: options.Soak = None,
    progress_time: options.ProgressTime = None,
    min_requests: options.MinRequests = None,
    max_error_rate: options.MaxErrorRate = None,
    max_error_excess: options.MaxErrorExcess = None,
    max_p95_ratio: options.MaxP95Ratio = None,
    silence: options.Silence = None,
    on_silence: options.OnSilence = None,
    mirror_fraction: options.MirrorFraction = None,
    port: options.Port = None,
    bind: options.Bind = None,
    anonymous: options.Anonymous = None,
    capture: options.Capture = None,
    request_timeout: options.RequestTimeout = None,
    max_body: options.MaxBody = None,
    gateways: options.Gateways = None,
    route_host: options.RouteHost = None,
    route_gateway: options.RouteGateway = None,
    ingress_class: options.IngressClass = None,
    tls_secret: options.TlsSecret = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Write the first key there (0600), and do not print it.")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Deploy nothing: write Kubernetes manifests there."),
    ] = None,
    export_as: exporting.Flavour = "manifests",
    image: exporting.Image = None,
    gateway_image: exporting.GatewayImage = None,
    *,
    with_secrets: exporting.WithSecrets = False,
    wait: Wait = True,
    timeout: Timeout = "15min",
    json: JsonFlag = False,
) -> None:
    """Have a version served in the cloud: build its image, start it, give it the traffic.

    The same again changes nothing; other options make another revision, which takes over by
    --strategy. Exit code 0 when it answers, 1 when it was rolled back, 4 when the time is over.
    """
    from cloud import shapes

    given = dict(locals())
    if export is None and (image, gateway_image, with_secrets) != (None, None, False):
        raise InvalidError("export", None, "--image and --with-secrets go with --export DIR")
    if bundle is not None and export is not None:
        exporting.export_new(given, words.duration(timeout, "timeout"), json=json)
        return
    if bundle is None or target is None:
        missing = "bundle" if bundle is None else "target"
        raise InvalidError(missing, None, "give --bundle NAME[:VERSION] and --target docker")
    place = {"kind": target, "host": host, "context": context, "namespace": namespace}
    wish = shapes.NewService.make(
        name=service,
        target=place,
        strategy=options.strategy(given),
        update=True,
        **options.revision(given, {}),
        **options.service(given, {}),
    )
    timeout_s = words.duration(timeout, "timeout")
    service_keys.require_new(key_file)
    with login.client() as registry:
        made = registry.deploy_service(wish)
        kept = _keep_key(made, key_file, json=json)
        _finish(registry, made, timeout_s=timeout_s if wait else None, kept=kept, json=json)


def update(  # noqa: PLR0917 - options, each by name
    service: options.Service,
    bundle: options.Bundle = None,
    cpu: options.Cpu = None,
    memory: options.Memory = None,
    gpus: options.Gpus = None,
    replicas: options.Replicas = None,
    least: options.Least = None,
    most: options.Most = None,
    cpu_percent: options.CpuPercent = None,
    env: options.Env = None,
    secret: options.Secret = None,
    node_selector: options.NodeSelector = None,
    base_image: options.BaseImage = None,
    strategy: options.StrategyKind = None,
    steps: options.Steps = None,
    step_time: options.StepTime = None,
    soak: options.Soak = None,
    progress_time: options.ProgressTime = None,
    min_requests: options.MinRequests = None,
    max_error_rate: options.MaxErrorRate = None,
    max_error_excess: options.MaxErrorExcess = None,
    max_p95_ratio: options.MaxP95Ratio = None,
    silence: options.Silence = None,
    on_silence: options.OnSilence = None,
    mirror_fraction: options.MirrorFraction = None,
    port: options.Port = None,
    bind: options.Bind = None,
    anonymous: options.Anonymous = None,
    capture: options.Capture = None,
    request_timeout: options.RequestTimeout = None,
    max_body: options.MaxBody = None,
    gateways: options.Gateways = None,
    route_host: options.RouteHost = None,
    route_gateway: options.RouteGateway = None,
    ingress_class: options.IngressClass = None,
    tls_secret: options.TlsSecret = None,
    *,
    wait: Wait = True,
    timeout: Timeout = "15min",
    json: JsonFlag = False,
) -> None:
    """Change what is given of a service, and leave the rest as it is.

    What makes a revision (model, version, resources, variables) makes a new one, which takes over
    by --strategy. --env and --secret replace all variables of their kind.
    """
    given = dict(locals())
    timeout_s = words.duration(timeout, "timeout")
    with login.client() as registry:
        present = registry.service(service)
        parts = before(present)
        changes: dict[str, Any] = {
            "strategy": options.strategy(given),
            **options.revision(given, parts),
            **options.service(given, parts),
        }
        made = registry.change_service(service, changes, revision=present.revision)
        _finish(registry, made, timeout_s=timeout_s if wait else None, kept="", json=json)


def before(present: "shapes.ServiceDetail") -> dict[str, Any]:
    """Return what of a service is changed in part."""
    current = next(each for each in present.revisions if each.name == present.current)
    return {
        "resources": current.resources.model_dump(),
        "scale": current.scale.model_dump(),
        "gateway": present.gateway.model_dump(),
        "route": None if present.route is None else present.route.model_dump(),
    }


def _keep_key(made: "shapes.ServiceMade", key_file: Path | None, *, json: bool) -> str:
    """Show the first key, or write it to a file, before anything can go wrong; return where."""
    if made.key is None:
        return ""
    if key_file is not None:
        service_keys.write(key_file, made.key)
        return str(key_file)
    if not json:
        output.facts([("key", made.key)])
        output.say("The key is shown only now; send it as 'Authorization: Bearer KEY'.")
    return ""


def _finish(
    registry: "Client",
    made: "shapes.ServiceMade",
    *,
    timeout_s: float | None,
    kept: str,
    json: bool,
) -> None:
    """Wait if that is wanted, say how it ended, and raise if it did not end well."""
    from cloud.cli import service_watching as watching

    revision, detail = made.service.current, made.service
    if not made.created:
        changed = ", ".join(made.changed)
        output.say(f"{detail.name}: changed: {changed}" if changed else f"{detail.name}: {NOTHING}")
    if timeout_s is not None:
        detail = watching.wait(registry, detail.name, revision=revision, timeout_s=timeout_s)
    if json:
        hidden = {"key": None} if kept else {}
        output.as_json(made.model_copy(update={"service": detail, **hidden}))
    else:
        serving = watching.find(detail, revision)
        what = "" if serving is None else f" {serving.model}:{serving.version}"
        output.facts([
            ("service", f"{detail.name} {revision}{what}"),
            ("state", output.plain(watching.progress(detail))),
            ("endpoint", ", ".join(detail.endpoints) or "none yet"),
        ])  # fmt: skip
    if timeout_s is not None:
        watching.raise_unless_up(detail, revision)
