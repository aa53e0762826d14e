"""`packhorse services export`, and `deploy --export`: manifests instead of a deployment."""

import json as jsons
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloud.cli import login, output, service_keys, words
from cloud.cli import service_options as options
from cloud.cli.output import JsonFlag
from cloud.errors import WaitError
from runtime.errors import InvalidError
from runtime.wording import counted

if TYPE_CHECKING:
    from cloud import shapes

FLAVOURS = ("manifests", "kserve")
POLL_S = 1.0

Flavour = Annotated[
    str, typer.Option("--export-as", help="manifests (with kustomize) or kserve: what is written.")
]
Image = Annotated[
    str | None,
    typer.Option(
        help="export: the image, made by `packhorse services build --push`; else the registry "
        "builds and pushes it."
    ),
]
GatewayImage = Annotated[
    str | None, typer.Option(help="export: the gateway's image; the same as --image if not given.")
]
WithSecrets = Annotated[
    bool,
    typer.Option("--with-secrets", help="export: with confidential values, in plain, for you."),
]


def export(
    service: options.Service,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New, or an older export.")],
    *,
    flavour: Flavour = "manifests",
    image: Image = None,
    gateway_image: GatewayImage = None,
    with_secrets: WithSecrets = False,
    timeout: Annotated[str, typer.Option(help="How long images may take to be built.")] = "15min",
    json: JsonFlag = False,
) -> None:
    """Write a service as it is as Kubernetes manifests: `kubectl apply -k DIR`.

    No cluster is asked. Secret values are left out unless --with-secrets; then only you can read
    the files.
    """
    from cloud import shapes

    wish = shapes.ExportWish.make(**asked(flavour, image, gateway_image, with_secrets=with_secrets))
    timeout_s = words.duration(timeout, "timeout")
    with login.client() as registry:
        save(lambda: registry.export_service(service, wish), directory, timeout_s, json=json)


def export_new(given: dict[str, Any], timeout_s: float, *, json: bool) -> None:
    """Write what `deploy` was asked for as manifests; `given` are its options."""
    from cloud import shapes

    target = given["target"] or "kubernetes"
    place = {"kind": target, **{name: given[name] for name in ("host", "context", "namespace")}}
    wish = shapes.NewExport.make(
        service={
            "name": given["service"],
            "target": place,
            "strategy": options.strategy(given),
            **options.revision(given, {}),
            **options.service(given, {}),
        },
        **asked(
            given["export_as"],
            given["image"],
            given["gateway_image"],
            with_secrets=given["with_secrets"],
        ),
    )
    key_file = given["key_file"]
    service_keys.require_new(key_file)
    with login.client() as registry:
        save(
            lambda: registry.export_new_service(wish),
            given["export"],
            timeout_s,
            key_file=key_file,
            json=json,
        )


def asked(
    flavour: str, image: str | None, gateway_image: str | None, *, with_secrets: bool
) -> dict[str, Any]:
    """Return how a service shall be written down."""
    if flavour not in FLAVOURS:
        raise InvalidError("export-as", flavour, f"use {' or '.join(FLAVOURS)}")
    return {
        "flavour": flavour,
        "image": image,
        "gateway_image": gateway_image,
        "secrets": with_secrets,
    }


def save(
    ask: "Callable[[], shapes.ServiceExport]",
    directory: Path,
    timeout_s: float,
    *,
    key_file: Path | None = None,
    json: bool,
) -> None:
    """Wait for the files, write them, and say what is to be done with them."""
    from cloud.hosting.kubernetes import exportfiles

    exportfiles.require_ours(directory)
    made = _awaited(ask, timeout_s)
    files = {name: text.encode() for name, text in made.files.items()}
    missing = exportfiles.write(directory, files, made.left_out)
    key = made.key
    if key is not None and key_file is not None:
        service_keys.write(key_file, key)
        key = None
    if json:
        said = {"directory": str(directory), "files": sorted(files), "missing": list(missing)}
        output.result(jsons.dumps({**said, "key": key}, indent=2))
        return
    if key is not None:
        output.facts([("key", key)])
        output.say("The key is shown only now; send it as 'Authorization: Bearer KEY'.")
    for name in missing:
        output.say(f"{directory / name} is left to you: it is confidential (--with-secrets).")
    output.say(f"{counted(len(files), 'file')} written: kubectl apply -k {directory}")


def _awaited(ask: "Callable[[], shapes.ServiceExport]", timeout_s: float) -> "shapes.ServiceExport":
    deadline, tick, told = time.monotonic() + timeout_s, threading.Event(), ""
    while True:
        made = ask()
        if not made.waiting:
            return made
        if made.waiting != told:
            told = made.waiting
            output.say(output.plain(told))
        if time.monotonic() >= deadline:
            raise WaitError(f"export: {told}")
        tick.wait(POLL_S)
