"""`packhorse gc`."""

from typing import Annotated

import typer

from cloud.cli import login, output
from cloud.cli.output import JsonFlag
from runtime.wording import counted


def gc(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be deleted.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Delete the files that no version needs any more; the registry does it by itself too."""
    with login.client() as registry:
        found = registry.collect_garbage(dry_run=dry_run)
    if json:
        output.as_json(found)
        return
    verb = "Would delete" if dry_run else "Deleted"
    output.result(
        f"{verb} {counted(found.blobs, 'blob')} ({output.size(found.blob_bytes)}), "
        f"{counted(found.encodings, 'object')} made of them "
        f"({output.size(found.encoding_bytes)}) and {counted(found.uploads, 'idle upload')}"
    )
