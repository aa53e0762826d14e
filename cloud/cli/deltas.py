"""`packhorse delta`: deltas between plain files, without a registry."""

import enum
import json as jsons
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import output, progress
from cloud.cli.output import JsonFlag
from runtime.errors import InvalidError

if TYPE_CHECKING:
    from cloud.deltas.plainfiles import Facts, Shown

app = typer.Typer(
    no_args_is_help=True, help="Make, apply and look at deltas between files, without a registry."
)


class Encoding(enum.StrEnum):
    """What a delta can be."""

    AUTO = "auto"
    ZSTD = "zstd"
    PLANES = "planes"
    PATCH = "patch"
    TENSOR = "tensor"


Force = Annotated[bool, typer.Option("--force", help="Replace the output if it is there.")]
Old = Annotated[Path, typer.Argument(metavar="OLD", help="The file that receivers have.")]


@app.command()
def make(
    old: Old,
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The file that they shall have.")],
    target: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The delta.")],
    *,
    encoding: Annotated[
        Encoding,
        typer.Option(
            help="tensor subtracts weights; patch copies bytes; auto takes the smaller of these."
            " zstd and planes send NEW whole: they do not look at OLD."
        ),
    ] = Encoding.AUTO,
    force: Force = False,
    json: JsonFlag = False,
) -> None:
    """Write what makes NEW of OLD to a file."""
    from cloud.deltas import plainfiles

    _require_free(target, force=force)
    with progress.working(f"comparing {old.name} and {new.name}"):
        found = plainfiles.make(old, new, target, encoding=encoding.value)
    if json:
        output.result(jsons.dumps({"file": str(target), **_plain(found)}, indent=2))
        return
    if found.old is None:
        output.say(f"{found.encoding} is whole: whoever applies it needs no old file.")
    output.result(f"{target}: {found.encoding}, {_saving(found)}")


@app.command()
def apply(
    old: Old,
    delta: Annotated[Path, typer.Argument(metavar="FILE", help="What `delta make` wrote.")],
    target: Annotated[Path, typer.Option("--output", "-o", metavar="NEW", help="The new file.")],
    *,
    force: Force = False,
    json: JsonFlag = False,
) -> None:
    """Make the new file of OLD and a delta, and check every byte of it.

    What is whole (zstd, planes) does not look at OLD, which need not be there then.
    """
    from cloud.deltas import plainfiles

    _require_free(target, force=force)
    found = plainfiles.facts(delta)
    if target.exists() and target.samefile(delta):
        raise InvalidError("--output", str(target), "it is FILE itself: name another file")
    if found.old is None and not json:
        output.say(f"{found.encoding} is whole: OLD is not looked at.")
    with progress.transfer(f"writing {target.name}", found.new_bytes) as advance:
        plainfiles.apply(old, delta, target, found, advance=advance)
    if json:
        output.result(jsons.dumps({"file": str(target), **_plain(found)}, indent=2))
    else:
        output.result(f"{target}: {output.size(found.new_bytes)}")


@app.command()
def show(
    delta: Annotated[Path, typer.Argument(metavar="FILE", help="A delta, or a zstd frame.")],
    *,
    json: JsonFlag = False,
) -> None:
    """Say what a delta needs and makes, and where its bytes go."""
    from cloud.deltas import plainfiles

    shown = plainfiles.show(delta)
    if json:
        shares = [
            {
                "what": each.what,
                "new_bytes": each.new_bytes,
                "delta_bytes": each.delta_bytes,
                "blocks": each.blocks,
                "modes": each.modes,
            }
            for each in shown.shares
        ]
        plain = {**_plain(shown.facts), "overhead_bytes": shown.overhead_bytes, "shares": shares}
        output.result(jsons.dumps(plain, indent=2))
        return
    _show(shown)


def _show(shown: "Shown") -> None:
    found = shown.facts
    needs = "nothing: it is whole"
    if found.old is not None:
        needs = f"a file of {found.old.size} bytes, SHA-256 {found.old.sha256}"
    output.facts(
        [
            ("encoding", found.encoding),
            ("size", _saving(found)),
            ("needs", needs),
            ("makes", f"a file of {found.new_bytes} bytes, SHA-256 {found.new_sha256 or 'untold'}"),
            ("memory", output.size(found.memory_bytes)),
        ]
    )
    rows = [
        (
            each.what,
            output.size(each.new_bytes),
            output.size(each.delta_bytes),
            ", ".join(f"{count} {mode}" for mode, count in sorted(each.modes.items())),
        )
        for each in shown.shares
    ]
    if rows:
        rows.append(("tables", "", output.size(shown.overhead_bytes), ""))
        output.show(("part", "new file", "delta", "blocks"), rows, none="")


def _plain(found: "Facts") -> dict[str, object]:
    """Return facts as scripts see them."""
    old = found.old
    return {
        "encoding": found.encoding,
        "file_bytes": found.file_bytes,
        "old": None if old is None else {"size_bytes": old.size, "sha256": old.sha256},
        "new": {"size_bytes": found.new_bytes, "sha256": found.new_sha256},
        "saved_bytes": found.new_bytes - found.file_bytes,
        "memory_bytes": found.memory_bytes,
    }


def _saving(found: "Facts") -> str:
    """Return sizes as a person reads them."""
    sizes = f"{output.size(found.file_bytes)} for {output.size(found.new_bytes)}"
    if not found.new_bytes:
        return sizes
    saved = 100 * (1 - found.file_bytes / found.new_bytes)
    return f"{sizes} ({saved:.1f} % saved)" if saved >= 0 else f"{sizes} (nothing saved)"


def _require_free(target: Path, *, force: bool) -> None:
    """Raise InvalidError unless a file may be written there."""
    if not target.parent.is_dir():
        raise InvalidError("--output", str(target), "its directory is not there: make it first")
    if (target.exists() or target.is_symlink()) and not target.is_file():
        raise InvalidError("--output", str(target), "it is no plain file: name another")
    if target.exists() and not force:
        raise InvalidError("--output", str(target), "it is there: --force replaces it")
