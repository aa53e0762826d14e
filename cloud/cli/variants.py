"""`packhorse models variants`: the same model for other hardware."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloud.cli import login, output, words
from cloud.cli.output import JsonFlag
from runtime.errors import InvalidError

if TYPE_CHECKING:
    from cloud import shapes
    from cloud.variants import Made, Wish
    from runtime.bundle.index import Index

app = typer.Typer(no_args_is_help=True, help="Files of a bundle for other hardware.")

Target = Annotated[str, typer.Argument(help="A bundle directory, or NAME[:VERSION].")]


Quantize = Annotated[
    str | None, typer.Option(help="Make the variant here: int8, by onnxruntime's quantizer.")
]
File = Annotated[
    Path | None, typer.Option(help="A model file that was made elsewhere (fp16, TensorRT...).")
]
Name = Annotated[
    str | None, typer.Option(help="What to call it; by default int8, or the file's name.")
]
When = Annotated[
    list[str] | None,
    typer.Option(
        help="FACT=CONDITION that a device must fulfil, such as arch=aarch64 or memory_mb<=2048"
        " (the default for int8); several must all hold."
    ),
]
Providers = Annotated[
    list[str] | None, typer.Option("--provider", help="onnxruntime's providers, best first.")
]
Tolerance = Annotated[
    float, typer.Option(min=0, max=1, help="How much of the quality may be lost.")
]
Examples = Annotated[
    Path | None,
    typer.Option(help="A .npz of inputs to calibrate and measure on; by default the check's."),
]


@app.command("list")
def list_variants(target: Target, *, json: JsonFlag = False) -> None:
    """List the variants of a bundle: for which devices each is, and what it loses."""
    import json as jsons

    rows = _rows(_index(target))
    if json:
        output.result(jsons.dumps(rows, indent=2))
        return
    output.show(
        ("variant", "for devices with", "model", "download", "loses"),
        [
            (
                row["name"],
                words.conditions(row["when"]) or "anything else",
                row["model"],
                output.size(row["download_bytes"]),
                "" if row["lost"] is None else f"{row['lost']['value']:.2%}",
            )
            for row in rows
        ],
        none="",
    )


@app.command()
def add(
    target: Target,
    *,
    quantize: Quantize = None,
    file: File = None,
    name: Name = None,
    when: When = None,
    provider: Providers = None,
    tolerance: Tolerance = 0.02,
    examples: Examples = None,
    json: JsonFlag = False,
) -> None:
    """Add a variant: to a bundle directory, or as the next version of a registered model.

    What it loses is measured on the examples and kept in the bundle; more than the tolerance is
    refused and changes nothing.
    """
    from cloud import variants

    _require_one(quantize, file)
    named = name or (variants.INT8 if file is None else file.stem)
    conditions = words.facts(when or ())
    if not conditions:
        if file is not None:
            raise InvalidError("--when", None, "say for which devices the file is")
        conditions = dict(variants.SMALL)
    wish = variants.Wish(named, file, conditions, tuple(provider or ()), tolerance, examples)
    directory = Path(target)
    if directory.is_dir():
        _show(variants.add(directory, wish), target, json=json)
        return
    made, registered = _next_version(target, wish)
    _show(made, f"{registered.model}:{registered.version}", json=json)


def _next_version(target: str, wish: "Wish") -> "tuple[Made, shapes.Registered]":
    """Pull a version, add the variant, push what that makes."""
    from cloud import variants
    from cloud.cli import pulling, pushing

    model, version = words.reference(target)
    with tempfile.TemporaryDirectory() as scratch, login.client() as registry:
        pulled = Path(scratch) / model
        pulling.pull(registry, model, version, pulled)
        made = variants.add(pulled, wish)
        return made, pushing.push(registry, pulled)


def _require_one(quantize: str | None, file: Path | None) -> None:
    from cloud import variants

    if (quantize is None) == (file is None):
        raise InvalidError("--quantize", quantize, "give --quantize int8, or --file MODEL")
    if quantize not in {None, variants.INT8}:
        raise InvalidError("--quantize", quantize, "give int8")


def _index(target: str) -> "Index":
    from runtime.bundle import build, index

    directory = Path(target)
    if directory.is_dir():
        return build.build(directory).index
    name, version = words.reference(target)
    with login.client() as registry:
        return index.decode(registry.index(name, str(registry.version(name, version).version)))


def _rows(index: "Index") -> list[dict[str, Any]]:
    """Return what a device with each variant fetches; the top level comes last."""
    import msgspec

    from runtime.bundle import variants

    rows = []
    for each in (*index.variants, None):
        name = variants.DEFAULT if each is None else each.name
        seen = variants.named(index, name)
        rows.append({
            "name": name,
            "when": {} if each is None else {k: list(v) for k, v in each.when.items()},
            "model": seen.model,
            "providers": list(seen.providers),
            "download_bytes": sum(entry.size for entry in seen.files),
            "lost": None if each is None else msgspec.to_builtins(each.lost),
        })  # fmt: skip
    return rows


def _show(made: "Made", where: str, *, json: bool) -> None:
    import json as jsons

    import msgspec

    if json:
        lost = msgspec.to_builtins(made.lost)
        plain = {"variant": made.name, "model": made.model, "size_bytes": made.size_bytes}
        output.result(jsons.dumps({**plain, "lost": lost, "in": where}, indent=2))
        return
    output.say(
        f"{made.model}: {output.size(made.size_bytes)} instead of {output.size(made.was_bytes)};"
        f" loses {made.lost.value:.2%} ({made.lost.metric} over {made.lost.rows} rows)"
    )
    output.result(f"{made.name} in {where}")
