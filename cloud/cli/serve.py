"""`packhorse serve`."""

import gc
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.errors import InvalidError


def serve(
    *,
    data: Annotated[
        Path | None,
        typer.Option(help="Directory for everything durable.", envvar="PACKHORSE_DATA"),
    ] = None,
    blobs_url: Annotated[
        str | None, typer.Option(help="s3://BUCKET/PREFIX?region=... for files, not the directory.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="HTTPS port; 0: any free one.")] = None,
    broker: Annotated[
        str | None, typer.Option(help="mqtts://HOST:PORT of your own broker, not the embedded one.")
    ] = None,
    broker_port: Annotated[
        int | None, typer.Option(help="MQTT port of the embedded broker; 0: any free one.")
    ] = None,
    broker_ca: Annotated[Path | None, typer.Option(help="CA of your own broker.")] = None,
    broker_certificate: Annotated[
        Path | None, typer.Option(help="Client certificate for your own broker.")
    ] = None,
    broker_key: Annotated[Path | None, typer.Option(help="Key of that certificate.")] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="Code that bundles may bring: entry-script (the default), pickle, or nothing."
        ),
    ] = None,
    public_name: Annotated[
        list[str] | None,
        typer.Option(help="A name or address under which devices reach this machine."),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(help="The URL that devices are told to use.")
    ] = None,
) -> None:
    """Run the registry: HTTP API, MQTT broker, telemetry intake; all its data in one directory.

    A second start with the same directory continues where the first was stopped or killed. What
    is not given here is read from PACKHORSE_*, e.g. PACKHORSE_PRESIGN_TTL_S.
    """
    gc.disable()  # nothing of what is loaded here is garbage: to look takes a sixth of the start
    from cloud import serve as registry

    gc.enable()
    given: dict[str, Any] = {
        "data": data,
        "blobs_url": blobs_url,
        "host": host,
        "port": port,
        "broker": broker,
        "broker_port": broker_port,
        "broker_ca": broker_ca,
        "broker_certificate": broker_certificate,
        "broker_key": broker_key,
        "allow": tuple(allow) if allow else None,
        "public_names": tuple(public_name) if public_name else None,
        "public_url": public_url,
    }
    raise typer.Exit(registry.serve(_settings(given)))


def _settings(given: dict[str, Any]) -> Any:
    import pydantic

    from cloud.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidError(field, first["input"], str(first["msg"])) from error
