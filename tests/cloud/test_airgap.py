"""Versions that travel in a file, from one registry to another that it never meets."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud import shapes
from cloud.airgap import exporting, importing
from cloud.client import Client
from cloud.errors import AbsentError, ClientError
from runtime import digests
from runtime.bundle import index
from runtime.bundle.archive import Archive
from runtime.bundle.index import Index, Uses
from runtime.digests import Digest
from runtime.errors import IntegrityError
from tests.support import registries
from tests.support.registries import Registry, Stores, one_file_index

SAID = shapes.Statement(
    description="the second",
    tags={"task": "anomaly"},
    metadata={"accuracy": "0.9"},
    card="# Card\n",
    lineage=shapes.LineageChanges(run="run-7", code="abc", parent="m:1"),
)


@dataclass
class Site:
    """A registry, and a client of it."""

    registry: Registry
    client: Client

    def push(
        self, name: str, content: bytes, *uses: Uses, said: shapes.Statement | None = None
    ) -> shapes.Registered:
        """Register a version, as `packhorse models push` would."""
        made, blob = one_file_index(name, content)
        made = Index(
            **{field: getattr(made, field) for field in made.__struct_fields__} | {"uses": uses}
        )
        self.registry.services.blobs.put_bytes(blob)
        return self.client.register(name, index.encode(made), said)


@contextlib.contextmanager
def site(data: Path, stores: Stores = registries.SQLITE) -> Iterator[Site]:
    with (
        registries.running(data, stores=stores) as registry,
        registries.listening(registry) as url,
        Client(url, registry.key, registry.services.authority.ca_pem) as client,
    ):
        yield Site(registry, client)


@pytest.fixture
def here(tmp_path: Path, stores: Stores) -> Iterator[Site]:
    """Where the models are."""
    with site(tmp_path / "here", stores) as made:
        made.push("m", b"one")
        made.push("m", b"two", said=SAID)
        yield made


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Site]:
    """Where they go: it has a version of its own already."""
    with site(tmp_path / "there") as made:
        made.push("m", b"its own")
        yield made


def test_a_version_arrives_with_all_that_was_said_of_it(
    here: Site, there: Site, tmp_path: Path
) -> None:
    exporting.export(here.client, [("m", "2")], tmp_path / "x.tar")

    (done,) = importing.load(there.client, tmp_path / "x.tar")

    assert done == importing.Imported("m:2", "m", 2, created=True)
    found, origin = there.client.version("m", "2"), here.client.version("m", "2")
    assert (found.bundle, found.description, found.tags) == (
        origin.bundle,
        "the second",
        {"task": "anomaly"},
    )
    assert found.metadata["accuracy"] == "0.9"
    assert found.metadata[importing.VERSION] == "m:2"
    assert found.metadata[importing.REGISTRY] == here.registry.services.authority.fingerprint
    assert found.metadata[importing.PARENT] == "m:1"
    assert there.client.model_card("m", "2") == "# Card\n"
    lineage = there.client.lineage("m", "2").lineage
    assert lineage is not None
    assert (lineage.run, lineage.code, lineage.parent) == ("run-7", "abc", None)
    there.client.fetch_blob(digests.of_bytes(b"two"), tmp_path / "copy", mode=0o600)
    assert (tmp_path / "copy").read_bytes() == b"two"


def test_importing_again_changes_nothing(here: Site, there: Site, tmp_path: Path) -> None:
    exporting.export(here.client, [("m", "1"), ("m", "2")], tmp_path / "x.tar")
    first = importing.load(there.client, tmp_path / "x.tar")
    again = importing.load(there.client, tmp_path / "x.tar")

    assert [each.version for each in first] == [each.version for each in again] == [2, 3]
    assert not any(each.created for each in again)
    assert len(list(there.client.versions("m"))) == 3
    parent = there.client.lineage("m", "3").lineage
    assert parent is not None
    assert parent.parent == "m:2", "which was m:1 at its origin"


def test_the_same_versions_make_the_same_bytes(here: Site, tmp_path: Path) -> None:
    exporting.export(here.client, [("m", "1"), ("m", "2")], tmp_path / "x.tar")
    exporting.export(here.client, [("m", "latest"), ("m", "1")], tmp_path / "y.tar")

    assert (tmp_path / "x.tar").read_bytes() == (tmp_path / "y.tar").read_bytes()


def test_what_passes_through_a_third_registry_keeps_its_first_origin(
    here: Site, there: Site, tmp_path: Path
) -> None:
    exporting.export(here.client, [("m", "2")], tmp_path / "x.tar")
    importing.load(there.client, tmp_path / "x.tar")
    exporting.export(there.client, [("m", "2")], tmp_path / "y.tar")
    with site(tmp_path / "third") as third:
        importing.load(third.client, tmp_path / "y.tar")
        found = third.client.version("m", "1").metadata

    assert found[importing.REGISTRY] == here.registry.services.authority.fingerprint


def test_what_a_version_is_made_of_comes_with_it(here: Site, there: Site, tmp_path: Path) -> None:
    """The numbers there are others; the contents are the same."""
    part = here.client.version("m", "2")
    whole = here.push("whole", b"all", Uses("m", 2, Digest(part.bundle)))

    exporting.export(here.client, [("whole", "1")], tmp_path / "x.tar")
    done = importing.load(there.client, tmp_path / "x.tar")

    assert [(each.model, each.version) for each in done] == [("m", 2), ("whole", 1)]
    assert there.client.version("whole").bundle == whole.bundle
    with (tmp_path / "x.tar").open("rb") as stream:
        asked = {each.model: each.asked for each in Archive(stream).manifest.versions}
    assert asked == {"m": False, "whole": True}


def test_a_part_with_another_number_is_found_by_its_content(there: Site, here: Site) -> None:
    two = here.client.version("m", "2")
    there.push("m", b"two")
    there.push("whole", b"all", Uses("m", 7, Digest(two.bundle)))

    assert {each.name for each in there.client.usage("m", "2").users} != set()
    with pytest.raises(ClientError, match="register that version first"):
        there.push("whole", b"other", Uses("m", 1, Digest("e" * 64)))


def test_a_damaged_file_registers_nothing(here: Site, there: Site, tmp_path: Path) -> None:
    exporting.export(here.client, [("m", "2")], tmp_path / "x.tar")
    whole = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(whole.replace(b"two", b"2.0"))

    with pytest.raises(IntegrityError):
        importing.load(there.client, tmp_path / "x.tar")
    assert len(list(there.client.versions("m"))) == 1


def test_nothing_is_written_for_a_version_that_does_not_exist(here: Site, tmp_path: Path) -> None:
    with pytest.raises(AbsentError):
        exporting.export(here.client, [("m", "7")], tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()
