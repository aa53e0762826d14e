"""All that an operator may set on the registry: `packhorse serve`'s options or PACKHORSE_*."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from runtime.bundle import policy
from runtime.errors import InvalidError

GIB = 1 << 30


class Settings(BaseSettings):
    """Read once at start, passed down, never changed."""

    model_config = SettingsConfigDict(env_prefix="PACKHORSE_", frozen=True, extra="forbid")

    data: Path
    """Everything durable lies below this directory: database, blobs, certificates, broker."""
    host: str = "127.0.0.1"
    """Address to listen on, for HTTP and for the embedded broker."""
    port: int = Field(default=8443, ge=0, le=65535)
    """HTTPS port; 0: any free one."""
    public_names: Annotated[tuple[str, ...], NoDecode] = ()
    """Names and addresses under which devices reach this machine; they go into the certificate.
    Comma-separated in the environment."""
    public_url: str | None = None
    """What devices are told to use, e.g. https://registry.example:8443; None: what they used."""
    database_url: str | None = None
    """SQLAlchemy URL; None: SQLite below `data`."""

    blobs_url: str | None = None
    """Where blobs are kept: s3://BUCKET/PREFIX?endpoint=...&region=..., gs:// or azure://; None:
    below `data`. Credentials come from the environment or the machine's role."""
    blobs_direct: bool = True
    """Have clients download from the store of `blobs_url` itself, by URLs that work for
    `presign_ttl_s`; false: through the registry."""
    encodings_cache_bytes: int = Field(default=20 * GIB, ge=0)
    """What encodings of blobs may take; deltas that were not used for longest go first. Whole
    encodings of what is deployed stay, whatever this says."""
    cache_bytes: int = Field(default=8 * GIB, ge=0)
    """Disk for copies of what the store of `blobs_url` keeps; used for making encodings."""
    gc_interval_s: float = Field(default=3600, gt=0)
    """How often what nothing refers to is deleted."""
    gc_grace_s: float = Field(default=86400, gt=0)
    """A blob that nothing refers to lives at least this long after its last upload."""
    upload_ttl_s: float = Field(default=86400, gt=0)
    """An upload in pieces is forgotten when nothing came for so long."""
    max_uploads: int = Field(default=100, gt=0)
    """Uploads in pieces under way at once."""
    max_uploads_bytes: int = Field(default=64 * GIB, gt=0)
    """What all uploads in pieces may bring together."""

    allow: Annotated[tuple[policy.Need, ...], NoDecode] = ("entry-script",)
    """Code that bundles may bring: entry-script (their own Python), pickle (which allows both),
    nothing. Comma-separated in the environment."""

    broker: str | None = None
    """mqtts://host:port of a broker of your own; None: the embedded one."""
    broker_port: int = Field(default=8883, ge=0, le=65535)
    """MQTT port of the embedded broker; 0: any free one."""
    broker_public_host: str | None = None
    """Host that devices are told to connect to for MQTT; None: that of the registry's URL, or of
    `broker`."""
    broker_ca: Path | None = None
    """CA certificate of an external broker; None: the registry's own CA signed it."""
    broker_certificate: Path | None = None
    """Client certificate for an external broker; None: the registry's own (`_registry`)."""
    broker_key: Path | None = None
    """Key of `broker_certificate`."""

    docker_host: str | None = None
    """The Docker engine that services use when they name none: unix://PATH, tcp://HOST:PORT or
    ssh://USER@HOST[:PORT][/SOCKET]; None: that of this machine."""
    docker_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """More engines, as NAME=URL. Comma-separated in the environment."""
    docker_tls: Path | None = None
    """Directory with ca.pem, cert.pem and key.pem for engines at tcp://."""
    kubeconfig: Path | None = None
    """Clusters that services may run on; None: the cluster that the registry runs in, or the
    user's own file."""
    image_registry: str | None = None
    """Where images are pushed, such as images.example/packhorse; None: they stay where they were
    built, which is enough for the one engine that built them. Credentials are those of Docker's
    configuration."""
    image_pull_config: Path | None = None
    """A docker config.json of which clusters get what it has for `image_registry`; None: nodes can
    pull from it as they are, or by `image_pull_secrets`."""
    image_pull_secrets: Annotated[tuple[str, ...], NoDecode] = ()
    """Secrets by which clusters pull images, where they are in each namespace already.
    Comma-separated in the environment."""
    image_builder: str | None = None
    """The engine, by its name in `docker_hosts`, that builds images for Kubernetes; None:
    `docker_host`."""
    base_image: str | None = None
    """What images of services are built on when nothing else is asked for; None: a slim Python."""

    presign_ttl_s: float = Field(default=3600, gt=0)
    """How long a download URL works."""
    max_blob_bytes: int = Field(default=16 * GIB, gt=0)
    """The largest file of a bundle."""
    max_body_bytes: int = Field(default=1 << 20, gt=0)
    """The largest request body but for a file's or an index's."""
    lease_s: float = Field(default=180, gt=0)
    """A device without a word for this long, and without a lease of its own, is unknown."""
    webhook_networks: Annotated[tuple[str, ...], NoDecode] = ()
    """Networks that webhooks may reach although they are not public, by plain http too, such as
    10.0.0.0/8 or 127.0.0.0/8. Comma-separated in the environment."""
    max_streams: int = Field(default=64, ge=0)
    """How many readers may follow /api/v1/events at once."""
    drain_s: float = Field(default=10, ge=0)
    """How long requests in flight may take at shutdown."""
    log_format: Literal["plain", "json"] = "plain"
    """json: one object a line, for log collectors."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged at least."""

    @field_validator(
        "public_names", "webhook_networks", "docker_hosts", "image_pull_secrets", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("docker_hosts")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            name, equals, url = text.partition("=")
            if not equals or not name or not url.partition("://")[2]:
                raise ValueError("write NAME=URL, such as gpu=ssh://packhorse@gpu.example")
        return value

    @field_validator("allow", mode="before")
    @classmethod
    def _allowed(cls, value: object) -> object:
        words = value.split(",") if isinstance(value, str) else value
        if not isinstance(words, list | tuple):
            return value
        try:
            return policy.parse((str(word).strip() for word in words if word), "allow")
        except InvalidError as error:
            raise ValueError(error.fix) from error

    @property
    def docker_engines(self) -> dict[str, str]:
        """The engines in `docker_hosts`: name to URL."""
        return {name: url for name, _, url in (each.partition("=") for each in self.docker_hosts)}

    @property
    def url_of_database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data / 'registry.db'}"

    @property
    def authority_directory(self) -> Path:
        """Where the CA and its certificates lie."""
        return self.data / "authority"

    @property
    def secrets_directory(self) -> Path:
        """Where the secret behind download URLs lies."""
        return self.data / "secrets"

    @property
    def broker_directory(self) -> Path:
        """Where the embedded broker keeps its state."""
        return self.data / "broker"
