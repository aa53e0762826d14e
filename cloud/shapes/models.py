"""Models, versions and blobs."""

from cloud.schema import Answer


class Version(Answer):
    """A registered version of a model."""

    model: str
    version: int
    bundle: str
    size_bytes: int
    created_at: float
    created_by: str
    description: str
    tags: dict[str, str]


class Registered(Version):
    """The answer to a registration."""

    created: bool
    """False: the newest version has this content already, and this is it."""


class Model(Answer):
    """A model."""

    name: str
    versions: int
    latest: Version


class BlobStored(Answer):
    """The answer to an upload."""

    sha256: str
    size_bytes: int
