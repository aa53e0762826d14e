"""Blobs: uploads in pieces, and what is deleted."""

from pydantic import Field

from cloud.schema import Answer, Request


class NewUpload(Request):
    """A blob that shall come in parts."""

    sha256: str = Field(min_length=64, max_length=64)
    size_bytes: int = Field(gt=0)


class Upload(Answer):
    """A blob that is coming in parts, numbered from 0 on."""

    id: str
    sha256: str
    size_bytes: int
    part_bytes: int
    """Of each part but the last."""
    parts: int
    arrived: list[int]
    """Numbers of the parts that need not be sent again."""


class CollectGarbage(Request):
    """A wish to delete what nothing refers to."""

    dry_run: bool = False


class Garbage(Answer):
    """What was deleted, or with `dry_run` what would be."""

    dry_run: bool
    adopted: int
    """Blobs that nobody had counted before; they live for the grace at least."""
    blobs: int
    blob_bytes: int
    encodings: int
    """Objects made of blobs that are gone."""
    encoding_bytes: int
    uploads: int
    """Uploads in pieces that nobody went on with."""
