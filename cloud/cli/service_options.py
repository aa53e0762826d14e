"""The options of `packhorse services deploy` and `update`, and what they ask for."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cloud import references
from cloud.cli import completing, words
from runtime.errors import InvalidError

MAX_SECRET_BYTES = 32 * 1024
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_MIB = {"": 1.0, "m": 1.0, "mb": 1e6 / (1 << 20), "mi": 1.0, "mib": 1.0, "g": 1024.0,
        "gb": 1e9 / (1 << 20), "gi": 1024.0, "gib": 1024.0}  # fmt: skip

Service = Annotated[str, typer.Argument(metavar="SERVICE", autocompletion=completing.services)]
Bundle = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:VERSION]",
        help="What is served: a number or alias; the newest if none.",
        autocompletion=completing.models,
    ),
]
Cpu = Annotated[float | None, typer.Option(help="Cores that a replica may use.")]
Memory = Annotated[str | None, typer.Option(help="Memory of a replica: 512M, 2G.")]
Gpus = Annotated[int | None, typer.Option(help="GPUs of a replica.")]
Replicas = Annotated[int | None, typer.Option(help="How many replicas.")]
Least = Annotated[
    int | None, typer.Option("--min", help="kubernetes: at least so many replicas, by load.")
]
Most = Annotated[
    int | None, typer.Option("--max", help="kubernetes: at most so many replicas, by load.")
]
CpuPercent = Annotated[
    int | None, typer.Option(help="kubernetes: load at which it scales out; 80 if not given.")
]
Env = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="A variable of the replicas.")
]
Secret = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY[=@FILE]",
        help="A variable that is never shown again: from a file, or from the same variable here.",
    ),
]
NodeSelector = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="kubernetes: on such nodes alone.")
]
BaseImage = Annotated[
    str | None, typer.Option(help="What the image is built on; the registry's default if none.")
]
StrategyKind = Annotated[
    str | None,
    typer.Option(
        "--strategy", help="How it takes over: rolling (the default), blue-green, canary, shadow."
    ),
]
Steps = Annotated[str | None, typer.Option(help="canary: percent, one after the other: 10,50,100.")]
StepTime = Annotated[str | None, typer.Option(help="canary: how long a step takes: 60s.")]
Soak = Annotated[
    str | None, typer.Option(help="How long the revision before stays warm afterwards: 60s.")
]
ProgressTime = Annotated[
    str | None, typer.Option(help="Not ready after so long: it is rolled back: 10min.")
]
MinRequests = Annotated[
    int | None, typer.Option(help="canary: how many requests a step must have seen.")
]
MaxErrorRate = Annotated[
    float | None, typer.Option(help="canary: fraction of its requests that may fail.")
]
MaxErrorExcess = Annotated[
    float | None, typer.Option(help="canary: by how much that may be above the revision before.")
]
MaxP95Ratio = Annotated[
    float | None, typer.Option(help="canary: how much slower it may be at the 95th percentile.")
]
Silence = Annotated[
    str | None, typer.Option(help="canary: how long a step waits for enough requests: 10min.")
]
OnSilence = Annotated[
    str | None, typer.Option(help="canary: what then: wait (the default), promote, rollback.")
]
MirrorFraction = Annotated[
    float | None, typer.Option(help="shadow: fraction of requests that are copied.")
]
Port = Annotated[int | None, typer.Option(help="docker: port on the host; a free one if none.")]
Bind = Annotated[str | None, typer.Option(help="docker: address on the host; 127.0.0.1 if none.")]
Anonymous = Annotated[
    bool | None, typer.Option("--anonymous/--keys-only", help="Let everybody ask, without a key.")
]
Capture = Annotated[
    float | None, typer.Option(help="Fraction of requests that are kept with their answers.")
]
RequestTimeout = Annotated[str | None, typer.Option(help="How long a request may take: 60s.")]
MaxBody = Annotated[str | None, typer.Option(help="The largest request: 64M.")]
Gateways = Annotated[int | None, typer.Option(help="kubernetes: how many gateways.")]
RouteHost = Annotated[
    str | None, typer.Option(help="kubernetes: name by which the world reaches it.")
]
RouteGateway = Annotated[
    str | None,
    typer.Option(metavar="NAMESPACE/NAME", help="kubernetes: Gateway that the route joins."),
]
IngressClass = Annotated[
    str | None, typer.Option(help="kubernetes: class of an Ingress, if there is no Gateway.")
]
TlsSecret = Annotated[
    str | None, typer.Option(help="kubernetes: Secret with the certificate of the route.")
]


def reference(bundle: str) -> dict[str, Any]:
    """Return model and version that are named."""
    name, version = words.reference(bundle)
    return {"model": name, "version": None if version == references.LATEST else version}


def revision(given: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is given of a revision; parts are put on top of those of `before`."""
    found: dict[str, Any] = {}
    if given["bundle"] is not None:
        found |= reference(given["bundle"])
    memory = given["memory"]
    parts = {
        "resources": {
            "cpu": given["cpu"],
            "memory_mb": None if memory is None else mebibytes(memory, "memory"),
            "gpus": given["gpus"],
        },
        "scale": scale(given),
    }
    found |= _on_top(parts, before)
    if given["env"] is not None:
        found["env"] = variables(given["env"], "env")
    if given["secret"] is not None:
        found["secrets"] = secrets(given["secret"])
    if given["node_selector"] is not None:
        found["node_selector"] = words.pairs(given["node_selector"], "node-selector")
    if given["base_image"] is not None:
        found["base_image"] = given["base_image"] or None
    return found


def scale(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many replicas are asked for; None where nothing is said."""
    replicas, least = given["replicas"], given["least"]
    if replicas is not None and (least is not None or given["most"] is not None):
        fix = "give --replicas, or --min and --max"
        raise InvalidError("replicas", replicas, fix)
    asked = {"least": replicas if least is None else least, "most": given["most"]}
    return asked | {"cpu_percent": given["cpu_percent"]}


def service(given: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is given of gateway and ways in; parts are put on top of those of `before`."""
    capture, body, timeout = given["capture"], given["max_body"], given["request_timeout"]
    parts = {
        "gateway": {
            "anonymous": given["anonymous"],
            "timeout_s": None if timeout is None else words.duration(timeout, "request-timeout"),
            "max_body_bytes": None
            if body is None
            else int(mebibytes(body, "max-body") * (1 << 20)),
            "capture": None if capture is None else {"fraction": capture},
            "replicas": given["gateways"],
        },
        "route": {
            "host": given["route_host"],
            "gateway_api": given["route_gateway"],
            "ingress_class": given["ingress_class"],
            "tls_secret": given["tls_secret"],
        },
    }
    found = _on_top(parts, before)
    if "route" in found and "host" not in found["route"]:
        raise InvalidError("route-host", None, "name the host of the route")
    found |= {name: given[name] for name in ("port", "bind") if given[name] is not None}
    return found


def strategy(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a new revision shall take over, as far as it is said."""
    times = {"step_time": "step_s", "soak": "soak_s", "progress_time": "progress_s",
             "silence": "silence_s"}  # fmt: skip
    plain = {"strategy": "kind", "on_silence": "on_silence", "mirror_fraction": "mirror_fraction"}
    gates = ("min_requests", "max_error_rate", "max_error_excess", "max_p95_ratio")
    found: dict[str, Any] = {
        field: words.duration(given[option], option.replace("_", "-"))
        for option, field in times.items()
        if given[option] is not None
    }
    found |= {field: given[option] for option, field in plain.items() if given[option] is not None}
    if given["steps"] is not None:
        found["steps"] = _steps(given["steps"])
    judged = {name: given[name] for name in gates if given[name] is not None}
    return found | ({"gates": judged} if judged else {})


def _steps(text: str) -> list[int]:
    parts = [part.strip().removesuffix("%") for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise InvalidError("steps", text, "write rising percentages, such as 10,50,100")
    return [int(part) for part in parts]


def _on_top(parts: Mapping[str, Mapping[str, Any]], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return those parts of which something is given, with what is not given as it was."""
    found = {}
    for name, fields in parts.items():
        said = {field: value for field, value in fields.items() if value is not None}
        if said:
            found[name] = {**(before.get(name) or {}), **said}
    return found


def variables(texts: Sequence[str], option: str) -> dict[str, str]:
    """Return KEY=VALUE texts as they are: a value may hold commas, and equals signs."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InvalidError(option, text, "write KEY=VALUE")
        found[key] = value
    return found


def secrets(texts: Sequence[str]) -> dict[str, str]:
    """Return secrets from files or from this process's variables; never from the command line,
    where other users of this machine could see them.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if equals and value.startswith("@"):
            found[key] = _read(Path(value[1:]), key)
        elif equals:
            fix = f"write {key}=@FILE, or {key} to take it from the variable {key}"
            raise InvalidError("secret", f"{key}=...", fix)
        elif key in os.environ:
            found[key] = os.environ[key]
        else:
            raise InvalidError("secret", key, f"set the variable {key}, or write {key}=@FILE")
    return found


def _read(path: Path, key: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
        if len(data) > MAX_SECRET_BYTES:
            raise InvalidError("secret", str(path), f"give at most {MAX_SECRET_BYTES} bytes")
        return data.decode().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError("secret", f"{key}=@{path}", f"give a file of text: {error}") from error


def mebibytes(text: str, option: str) -> int:
    """Return MiB; 512, 512M, 2G and 2Gi are understood."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or found[2].lower() not in _MIB:
        raise InvalidError(option, text, "write a number and M or G, such as 512M")
    return max(1, round(float(found[1]) * _MIB[found[2].lower()]))
