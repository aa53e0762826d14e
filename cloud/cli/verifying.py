"""`packhorse models verify`: the same answer everywhere."""

import json as jsons
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import completing, login, output, words
from cloud.cli.output import JsonFlag
from runtime.wording import counted

if TYPE_CHECKING:
    from cloud import shapes
    from cloud.client import Client
    from cloud.verification.findings import Finding

PLACES = ("device", "docker", "kubernetes")


def verify(
    model: Annotated[
        str, typer.Argument(metavar="NAME[:VERSION]", autocompletion=completing.models)
    ],
    *,
    on: Annotated[str, typer.Option("--on", help=f"Where: {' or '.join(PLACES)}.")],
    to: Annotated[
        str | None, typer.Option("--to", help="device: only those that this selects.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option("--device", help="device: this one; may be repeated.")
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(
            help="docker, kubernetes: this service alone.", autocompletion=completing.services
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Ask from here, at this URL of the service's gateway; else the registry asks."
        ),
    ] = None,
    timeout: Annotated[str, typer.Option(help="How long each place may take.")] = "60s",
    json: JsonFlag = False,
) -> None:
    """Run a version's check where it runs, and compare the answers with the golden ones.

    Devices are asked over MQTT: the worker that answers inference there runs the check again.
    Services are asked by the registry, through their gateways, inside a cluster too; with --url,
    from here, as clients do. Exit code 0 when all agree, 1 when one does not, 4 when one could not
    be asked.
    """
    from runtime.errors import InvalidError

    timeout_s = words.duration(timeout, "--timeout")
    name, version = words.reference(model)
    if on not in PLACES:
        raise InvalidError("--on", on, f"name one of {', '.join(PLACES)}")
    if on == "device":
        found = _on_devices(name, version, to, device or (), timeout_s)
    else:
        found = _on_services((name, version), on, service, url, timeout_s)
    show(found, json=json)
    require_all(found)


def _on_devices(
    name: str, version: str, selector: str | None, devices: Sequence[str], timeout_s: float
) -> "list[Finding]":
    from cloud.cli import progress
    from cloud.errors import NotFoundError
    from cloud.verification import devices as verifying

    with login.client() as registry:
        wanted = _checked(registry, name, version)
        places = verifying.running(registry, wanted.bundle, selector, devices)
    if not places:
        fix = "deploy it first, or see `packhorse devices list`"
        raise NotFoundError("device that runs", f"{wanted.model}:{wanted.version}", fix)
    with progress.working(f"checking on {counted(len(places), 'device')}"):
        return list(verifying.verify(login.client, wanted.bundle, places, timeout_s=timeout_s))


def _on_services(
    model: tuple[str, str], kind: str, service: str | None, url: str | None, timeout_s: float
) -> "list[Finding]":
    from cloud.cli import progress
    from cloud.errors import NotFoundError
    from cloud.verification import golden, services

    with login.client() as registry:
        wanted = _checked(registry, *model)
        places = [
            each
            for each in services.serving(registry, wanted.bundle, kind)
            if service in {None, each[0]}
        ]
        if not places:
            reference = f"{wanted.model}:{wanted.version}"
            fix = f"packhorse services deploy NAME --bundle {reference} --target {kind}"
            raise NotFoundError(f"service on {kind} that serves", reference, fix)
        with progress.working(f"asking {counted(len(places), 'service')}"):
            if url is None:
                return [
                    services.verify(registry, at, revision=revision, timeout_s=timeout_s)
                    for at, revision in places
                ]
            expected = golden.fetch(registry, *model)
            return [
                services.verify_from_here(
                    registry, at, expected, revision=revision, timeout_s=timeout_s, url=url
                )
                for at, revision in places
            ]


def _checked(registry: "Client", name: str, version: str) -> "shapes.Version":
    """Return a version that has a check."""
    from runtime.bundle import index
    from runtime.errors import InvalidError

    wanted = registry.version(name, version)
    if index.decode(registry.index(name, str(wanted.version))).check is None:
        fix = "it has no check: give its bundle.yaml golden inputs and outputs"
        raise InvalidError("check", f"{wanted.model}:{wanted.version}", fix)
    return wanted


def show(found: "Sequence[Finding]", *, json: bool) -> None:
    """Print what was found."""
    import dataclasses

    if json:
        output.result(jsons.dumps([dataclasses.asdict(each) for each in found], indent=2))
        return
    rows = [(each.where, _verdict(each), each.text) for each in found]
    output.show(("where", "check", "found"), rows, none="Nothing was asked.")


def require_all(found: "Sequence[Finding]") -> None:
    """Raise WaitError if somebody could not be asked, ModelError if an answer is another."""
    from cloud.errors import WaitError
    from runtime.errors import ModelError

    for each in found:
        if each.asked and not each.ok:
            raise ModelError(f"{each.where}: {each.text}")
    for each in found:
        if not each.asked:
            raise WaitError(f"{each.where}: {each.text}")


def _verdict(finding: "Finding") -> str:
    if not finding.asked:
        return "not asked"
    return "passed" if finding.ok else "FAILED"
