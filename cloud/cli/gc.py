"""`packhorse gc`."""

from typing import Annotated

import typer

from cloud.cli import login, output
from cloud.cli.output import JsonFlag


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
        f"{verb} {found.blobs} blobs ({output.size(found.blob_bytes)}), {found.encodings} objects "
        f"made of them ({output.size(found.encoding_bytes)}) and {found.uploads} idle uploads"
    )
