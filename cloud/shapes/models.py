"""Models, versions and blobs."""

from typing import Annotated

from pydantic import Field, FiniteFloat

from cloud.schema import Answer, Request
from cloud.shapes.words import ShortText

MAX_PAIRS = 200
LongText = Annotated[str, Field(max_length=4096)]
CardText = Annotated[str, Field(max_length=256 << 10)]
Pairs = Annotated[dict[ShortText, LongText], Field(max_length=MAX_PAIRS)]
PairChanges = Annotated[dict[ShortText, LongText | None], Field(max_length=MAX_PAIRS)]
"""A value sets a key, null removes it; keys that are not named stay."""


class Version(Answer):
    """A registered version of a model."""

    model: str
    version: int
    bundle: str
    kind: str
    size_bytes: int
    created_at: float
    created_by: str
    updated_at: float
    description: str
    tags: dict[str, str]
    """Its own; searches see those of its model too."""
    metadata: dict[str, str]
    """Its own, as `tags`."""
    aliases: list[str]
    card: bool
    """Whether it has a model card of its own."""
    revision: int
    """Rises with every change of what is said of it."""


class Registered(Version):
    """The answer to a registration."""

    created: bool
    """False: the newest version has this content already, and this is it."""


class Model(Answer):
    """A model."""

    name: str
    versions: int
    """How many there are."""
    latest: Version | None
    """None: all were deleted."""
    aliases: dict[str, int]
    created_at: float
    updated_at: float
    description: str
    tags: dict[str, str]
    metadata: dict[str, str]
    card: bool
    """Whether it has a model card of its own."""
    revision: int
    """Rises with every change of the model, its versions and its aliases."""


class Data(Request):
    """Data that a version was made from."""

    uri: Annotated[str, Field(max_length=1024)]
    digest: ShortText | None = None


class LineageChanges(Request):
    """Where a version comes from: fields that are given change, null removes."""

    run: Annotated[str, Field(max_length=1024)] | None = None
    """Id or URI of the training run."""
    code: Annotated[str, Field(max_length=1024)] | None = None
    """Commit, with its repository if wanted."""
    data: Annotated[list[Data], Field(max_length=32)] | None = None
    parent: Annotated[str, Field(max_length=160)] | None = None
    """NAME:VERSION or NAME@ALIAS of the version that this one was made from."""
    trained_by: ShortText | None = None
    trained_at: FiniteFloat | None = None
    """Seconds since 1970."""
    extra: PairChanges | None = None


class ModelChanges(Request):
    """What to say of a model from now on: fields that are given change, null removes."""

    description: LongText | None = None
    tags: PairChanges | None = None
    metadata: PairChanges | None = None
    card: CardText | None = None
    """Markdown."""


class VersionChanges(ModelChanges):
    """What to say of a version from now on: fields that are given change, null removes."""

    lineage: LineageChanges | None = None


class Statement(Request):
    """What is said of a version as it is registered; wins over what the bundle says of itself."""

    description: LongText | None = None
    tags: Pairs = Field(default_factory=dict)
    metadata: Pairs = Field(default_factory=dict)
    card: CardText | None = None
    """Markdown."""
    lineage: LineageChanges | None = None
    aliases: list[ShortText] = Field(default_factory=list, max_length=32)
    """Names that shall mean this version from now on."""


class NewVersion(Statement):
    """Asks for a registration."""

    bundle: Annotated[str, Field(max_length=64)]
    """SHA-256 of its index, which is uploaded as a blob like its files."""


class AliasTarget(Request):
    """Which version an alias shall mean."""

    version: Annotated[int, Field(ge=1)] | ShortText
    """A number, "latest" or another alias."""


class Alias(Answer):
    """A name of a version that moves."""

    model: str
    name: str
    version: int
    moved_at: float
    moved_by: str
    revision: int


class Origin(Answer):
    """Where a version comes from."""

    run: str | None = None
    code: str | None = None
    data: list[dict[str, str]] = Field(default_factory=list)
    parent: str | None = None
    """NAME:VERSION."""
    trained_by: str | None = None
    trained_at: float | None = None
    extra: dict[str, str] = Field(default_factory=dict)
    recorded_at: float
    recorded_by: str


class Relative(Answer):
    """A version in a family tree."""

    model: str
    version: int
    depth: int
    """0: the version asked for; -1: its parent; 1: its children."""
    present: bool
    """False: it was deleted."""
    lineage: Origin | None


class Family(Answer):
    """Where a version comes from, and what came from it."""

    model: str
    version: int
    registered_at: float
    registered_by: str
    lineage: Origin | None
    relatives: list[Relative]
    """Oldest ancestor first, then the version itself, then descendants behind their parents."""
    truncated: bool
    """There are more than are shown."""


class User(Answer):
    """Something that needs a version."""

    kind: str
    id: str
    name: str
    version: str


class Usage(Answer):
    """Who needs a version or a model."""

    users: list[User]
    """While there is one, nothing is deleted."""
    running: list[str]
    """Devices that said they run it; they keep what they have, and hinder nothing."""


class Deleted(Answer):
    """The answer to a deletion."""

    deleted: str
    running: list[str]
    """As in `Usage`."""


class BlobStored(Answer):
    """The answer to an upload."""

    sha256: str
    size_bytes: int
