"""`packhorse services build`: the image that serves a bundle, made with this machine's engine."""

import contextlib
import json as jsons
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import building, login, output, progress, words
from cloud.cli.output import JsonFlag
from cloud.images.image import DEFAULT_BASE

if TYPE_CHECKING:
    from cloud.images.builder import Builder
    from cloud.images.content import Content


def build(
    bundle: Annotated[
        str,
        typer.Argument(metavar="NAME[:VERSION]|DIR", help="A registered version, or a directory."),
    ],
    *,
    base_image: Annotated[
        str, typer.Option(help="An image with Python 3.10 or newer to build on.")
    ] = DEFAULT_BASE,
    gpu: Annotated[bool, typer.Option("--gpu", help="With CUDA and its libraries.")] = False,
    context: Annotated[
        Path | None,
        typer.Option(help="Write what a build needs to this new directory, and build nothing."),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="REPOSITORY",
            help="Push it there, such as images.example/team; `docker login` first.",
        ),
    ] = None,
    sbom: Annotated[
        Path | None, typer.Option(help="Write the bill of materials (CycloneDX) to this file.")
    ] = None,
    docker_host: Annotated[
        str | None,
        typer.Option(envvar="DOCKER_HOST", help="unix://PATH, tcp://HOST:PORT or ssh://HOST."),
    ] = None,
    docker_certs: Annotated[
        Path | None,
        typer.Option(envvar="DOCKER_CERT_PATH", help="tcp: ca.pem, cert.pem and key.pem."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Build the image that serves a bundle; what is there already is used again."""
    from runtime import files

    with _content(bundle) as content, _builder(docker_host, docker_certs, push) as builder:
        if context is not None:
            with progress.working(f"laying out {content.index.name}"):
                builder.context(context, content, base_image=base_image, gpu=gpu, progress=_tell)
            output.result(jsons.dumps({"context": str(context)}) if json else str(context))
            return
        with progress.working(f"building {content.index.name}"):
            image = builder.build(content, base_image=base_image, gpu=gpu, progress=_tell)
        if sbom is not None:
            document = builder.sbom(content, base_image=base_image, gpu=gpu)
            files.write_atomic(sbom, document, mode=0o644)
    if json:
        output.result(jsons.dumps(asdict(image), indent=2))
        return
    how = "there already" if image.reused else "built"
    output.say(f"{how}, {output.size(image.size_bytes)}, {image.digest}")
    output.result(image.reference)


def _tell(line: str) -> None:
    """Say how far it is; the engine's own steps are too many to be read."""
    if not line.startswith("Step ") and ": " not in line:
        output.say(line)


@contextlib.contextmanager
def _content(bundle: str) -> "Iterator[Content]":
    """Give a bundle from a directory, or from the registry."""
    from cloud.cli import pulling
    from cloud.images import content

    if Path(bundle).is_dir():
        with building.built(Path(bundle)) as made:
            yield content.of_built(made)
        return
    name, version = words.reference(bundle)
    with login.client() as registry, tempfile.TemporaryDirectory(prefix="packhorse-") as scratch:
        directory = Path(scratch) / "bundle"
        found = pulling.pull(registry, name, version, directory)
        index = registry.index(name, str(found.version))
        yield content.of_directory(directory, index, found.version)


@contextlib.contextmanager
def _builder(url: str | None, certs: Path | None, push: str | None) -> "Iterator[Builder]":
    import platformdirs

    from cloud.images.builder import Builder, Publishing
    from runtime.containers.engine import Engine
    from runtime.containers.specs import Address

    files = dict(zip(("ca", "certificate", "key"), ("ca.pem", "cert.pem", "key.pem"), strict=True))
    tls = {} if certs is None else {name: str(certs / each) for name, each in files.items()}
    engine = Engine(Address(url, **tls))  # type: ignore[arg-type]
    try:
        publishing = None if push is None else Publishing(push)
        work = platformdirs.user_cache_path("packhorse") / "images"
        yield Builder(engine, work, publishing=publishing)
    finally:
        engine.close()
