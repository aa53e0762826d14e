"""`packhorse models profile`: how a model runs here, and what its bundle.yaml should say."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloud.cli import building, completing, login, output, progress, words
from cloud.cli.output import JsonFlag
from runtime.errors import InvalidError

if TYPE_CHECKING:
    from runtime.bundle.index import Index
    from runtime.inference.advice import Advice
    from runtime.inference.profile import Measurement

Target = Annotated[
    str,
    typer.Argument(
        metavar="NAME[:VERSION]|PATH",
        help="A registered version, a bundle's directory, or a model file.",
        autocompletion=completing.models,
    ),
]
Seconds = Annotated[float, typer.Option(min=0.05, max=600, help="How long each setting runs.")]
Threads = Annotated[
    list[int] | None, typer.Option(help="Threads of one run; may be repeated. [default: by cores]")
]
Batches = Annotated[
    list[int] | None, typer.Option(help="Rows of a batch; may be repeated. [default: 1, 8, 32]")
]
Callers = Annotated[
    list[int] | None, typer.Option(help="Who run at once; may be repeated. [default: 1, cores]")
]
Write = Annotated[
    bool, typer.Option("--write", help="Set resources and batching in the directory's bundle.yaml.")
]


def profile(
    target: Target,
    *,
    seconds: Seconds = 1.0,
    threads: Threads = None,
    batches: Batches = None,
    callers: Callers = None,
    allow: building.Allow = None,
    write: Write = False,
    json: JsonFlag = False,
) -> None:
    """Measure threads, batches and callers on this machine, and advise resources and batching.

    Each setting runs in a process of its own. This runs the bundle's own code, if it has any.
    """
    from runtime.inference import advice

    place = Path(target)
    if write and not (place / "bundle.yaml").is_file():
        raise InvalidError("--write", target, "only a bundle's directory can be written to")
    sizes = {"threads": threads or (), "rows": batches or (), "callers": callers or ()}
    measured = _measure(target, sizes, seconds, allow)
    advised = advice.advise(measured)
    if write:
        from cloud import profiles as writing

        writing.write(place, advised)
    _show(measured, advised, json=json)
    if write:
        output.say(f"Written to {place / 'bundle.yaml'}")


def _measure(
    target: str, sizes: dict[str, Any], seconds: float, allow: list[str] | None
) -> "list[Measurement]":
    from runtime.bundle import policy
    from runtime.inference import profile as profiles

    allowed = policy.granted(policy.parse(allow or (), "--allow")) | set(policy.DEFAULT)
    with _laid_out(target, allow) as (directory, index):
        wanted = profiles.settings(index, **sizes)
        with progress.steps(f"measuring {index.name}", len(wanted)) as done:
            return list(
                profiles.measure_all(
                    directory, index, wanted, seconds=seconds, allow=sorted(allowed), done=done
                )
            )


@contextlib.contextmanager
def _laid_out(target: str, allow: list[str] | None) -> "Iterator[tuple[Path, Index]]":
    """Give a bundle's files as a worker has them, and its index."""
    if Path(target).exists():
        with building.laid_out(Path(target), None, allow) as (_, found):
            yield found
        return
    if "/" in target or Path(target).suffix:
        raise InvalidError("path", target, "there is no such file or directory")
    from cloud.cli import pulling
    from runtime.bundle import index

    name, version = words.reference(target)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / name
        with login.client() as registry:
            pulled = pulling.pull(registry, name, version, directory)
            content = registry.index(name, str(pulled.version))
        yield directory, index.decode(content)


def _show(measured: "list[Measurement]", advised: "Advice", *, json: bool) -> None:
    import json as jsons

    import msgspec

    if json:
        plain: dict[str, Any] = {"measured": measured, "advice": advised}
        output.result(jsons.dumps(msgspec.to_builtins(plain), indent=2))
        return
    output.show(
        ("threads", "batch", "callers", "p50 ms", "p95 ms", "p99 ms", "rows/s", "memory"),
        [_row(each) for each in measured],
        none="",
    )
    for reason in advised.because:
        output.say(reason)
    output.result(f"resources: {{memory_mb: {advised.memory_mb}, cpu: {advised.cpu}}}")
    if advised.batching is not None:
        output.result(f"batching: {{max_size: {advised.batching.max_size}}}")


def _row(each: "Measurement") -> tuple[str, ...]:
    setting = each.setting
    head = (str(setting.threads), str(each.rows), str(setting.callers))
    if each.error:
        return (*head, each.error, "", "", "", "")
    times = (f"{value:.3f}" for value in (each.p50_ms, each.p95_ms, each.p99_ms))
    return (*head, *times, f"{each.rows_s:.0f}", f"{each.memory_mb:.0f} MiB")
