"""Backups: made while the registry works, restored into any database and store."""

import io
import json
import random
import sqlite3
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlmodel
import zstandard
from sqlalchemy import Engine, select
from sqlmodel import SQLModel, col

from cloud import database, tables
from cloud.backup import container, make, mend, restore, unfinished
from cloud.errors import ConflictError, ForeignDatabaseError, UnfinishedError
from cloud.registry import desired
from cloud.settings import Settings
from runtime import digests, files, messages
from runtime.errors import IntegrityError, InvalidError, PackhorseError
from runtime.topics import DeviceId
from tests.support import brokers, registries
from tests.support.fleet import add_records, converge
from tests.support.postgres import Server
from tests.support.registries import Registry, SetClock, Stores

LATER = 1_800_100_000.0
CHANGED = {"encoding", "idempotency_key", "desired", "device", "blob", "event", "enrolment_token"}
"""Tables that are not kept, or that restoring changes."""

Rows = dict[str, list[tuple[Any, ...]]]


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    """Give a registry in which something has happened."""
    with registries.running(tmp_path / "old", stores=stores) as running:
        fill(running)
        yield running


def fill(registry: Registry) -> None:
    registry.register("m", b"first")
    registry.register("m", b"second")
    registry.register("other", b"third")
    registry.enrol("one", labels={"site": "lab"}, facts={"arch": "aarch64"})
    registry.enrol("two")
    registry.token(labels={"site": "far"})
    deployment = registry.post("/api/v1/deployments", {"model": "m", "selector": "site=lab"}, 201)
    converge(registry, "one", deployment)
    add_records(registry, "one", 1, [1.0, 2.0, 200.0])


def contents(engine: Engine) -> Rows:
    """Return all rows of the tables that restoring leaves as they are."""
    found: Rows = {}
    with engine.connect() as connection:
        for table in SQLModel.metadata.sorted_tables:
            if table.name not in CHANGED:
                rows = connection.execute(select(table))
                found[table.name] = sorted((tuple(row) for row in rows), key=repr)
    return found


def target(tmp_path: Path, stores: Stores) -> Settings:
    return Settings(data=tmp_path / "new", **stores.settings)


@pytest.fixture
def elsewhere(
    request: pytest.FixtureRequest, postgres_server: Server, s3_server: Any
) -> Iterator[Stores]:
    """Give empty stores of the kind that the parameter names."""
    name = postgres_server.make(template="template0")
    kinds = {
        "sqlite+directory": registries.SQLITE,
        "postgresql+s3": Stores(
            "postgresql+s3",
            {"database_url": postgres_server.url(name), "blobs_url": s3_server.url()},
        ),
    }
    yield kinds[request.param]
    postgres_server.drop(name)


@pytest.mark.parametrize("elsewhere", ["sqlite+directory", "postgresql+s3"], indirect=True)
def test_a_registry_is_restored_into_any_stores(
    registry: Registry, elsewhere: Stores, tmp_path: Path
) -> None:
    services, backup = registry.services, tmp_path / "registry.tar.zst"
    made = make.make(services.settings, backup)
    before = contents(services.engine)

    done = restore.restore(target(tmp_path, elsewhere), backup, clock=SetClock(LATER))

    assert backup.stat().st_mode & 0o777 == 0o600
    assert (done.blobs, done.missing, done.rows) == (made.blobs, (), made.rows)
    with registries.running(tmp_path / "new", stores=elsewhere) as again:
        assert contents(again.services.engine) == before
        assert again.key == registry.key
        assert again.services.authority.ca_pem == registry.services.authority.ca_pem
        assert [each["name"] for each in again.get("/api/v1/models")["items"]] == ["m", "other"]
        assert again.register("m", b"fourth")["version"] == 3
        digest = digests.of_bytes(b"third")
        assert b"".join(again.services.blobs.read(digest)) == b"third"
        token = registry.services.presigner.sign("/dl/x")
        assert again.services.presigner.sign("/dl/x") == token
        again.enrol("three")


@pytest.fixture
def restored(registry: Registry, tmp_path: Path) -> Iterator[Registry]:
    """Give a SQLite registry out of a backup of the other one."""
    backup = tmp_path / "registry.tar.zst"
    make.make(registry.services.settings, backup)
    # After the backup: one device hears of more, another token is used.
    registry.post("/api/v1/deployments", {"model": "other", "selector": "device=one"}, 201)
    restore.restore(Settings(data=tmp_path / "new"), backup, clock=SetClock(LATER))
    with registries.running(tmp_path / "new") as again:
        yield again


def generations(registry: Registry) -> dict[str, int]:
    with registry.services.reading() as session:
        found = session.exec(sqlmodel.select(tables.Desired)).all()
        wanted = [desired.read(session, DeviceId(row.device)) for row in found]
    assert [row.generation for row in found] == [each.generation for each in wanted if each]
    return {row.device: row.generation for row in found}


def test_no_generation_is_used_twice(registry: Registry, restored: Registry) -> None:
    before, after = generations(registry), generations(restored)

    assert before.keys() == after.keys()
    assert min(after.values()) == int(LATER) * mend.NUMBERS_A_SECOND > max(before.values())
    assert max(after.values()) < 1 << 53
    with restored.services.reading() as session:
        assert len(desired.to_publish(session)) == len(after)


def test_tokens_of_before_enrol_nobody(registry: Registry, tmp_path: Path) -> None:
    token = registry.token()
    make.make(registry.services.settings, tmp_path / "b")
    restore.restore(Settings(data=tmp_path / "new"), tmp_path / "b", clock=SetClock(1_800_000_001))

    with registries.running(tmp_path / "new") as again:
        again.clock.at += 10
        body = {"token": token, "csr": brokers.csr(again.device_key)}
        assert again.bare.post("/api/v1/enrol", json=body).status_code == 410


def test_events_go_on_above_all_that_anybody_has_seen(
    registry: Registry, restored: Registry
) -> None:
    restored.token()
    with restored.services.reading() as session:
        found = session.exec(sqlmodel.select(tables.Event).order_by(col(tables.Event.id))).all()
    with registry.services.reading() as session:
        seen = [each.id or 0 for each in session.exec(sqlmodel.select(tables.Event))]

    kinds = [event.kind for event in found]
    place = kinds.index(mend.KIND)
    assert all(event.id is not None and event.id > max(seen) for event in found[place:])
    assert len(found[place:]) >= 2


def test_a_backup_is_of_one_moment_while_others_write(registry: Registry, tmp_path: Path) -> None:
    """Whatever it holds belongs together: no version without its bundle and blobs."""
    done = threading.Event()

    def write() -> None:
        rng = random.Random(1)
        while not done.is_set():
            registry.register("m", rng.randbytes(50))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            made = make.make(registry.services.settings, tmp_path / f"{number}")
            assert made.missing == ()
    finally:
        done.set()
        writer.join()
    result = restore.restore(Settings(data=tmp_path / "new"), tmp_path / "2")

    assert result.missing == ()
    with registries.running(tmp_path / "new") as again:
        for version in again.get("/api/v1/models/m/versions?limit=200")["items"]:
            assert again.get(f"/api/v1/models/m/versions/{version['version']}")


def test_blobs_that_stay_in_their_store_are_found_there_again(
    registry: Registry, stores: Stores, tmp_path: Path
) -> None:
    services = registry.services
    made = make.make(services.settings, tmp_path / "b", blobs=False)

    done = restore.restore(services.settings, tmp_path / "b", replace=True)

    assert (made.blobs, done.blobs, done.missing) == (0, 0, ())
    with registries.running(tmp_path / "old", stores=stores) as again:
        assert again.get("/api/v1/models/m")["name"] == "m"


def test_what_the_registry_has_lost_is_said(registry: Registry, tmp_path: Path) -> None:
    lost = digests.of_bytes(b"third")
    registry.services.blobs.delete(lost)

    made = make.make(registry.services.settings, tmp_path / "b")
    done = restore.restore(Settings(data=tmp_path / "new"), tmp_path / "b")

    assert (made.missing, done.missing) == ((lost,), (lost,))


def test_a_registry_is_not_replaced_by_accident(
    registry: Registry, stores: Stores, tmp_path: Path
) -> None:
    make.make(registry.services.settings, tmp_path / "b")
    registry.register("m", b"later")

    with pytest.raises(ConflictError, match="--replace"):
        restore.restore(registry.services.settings, tmp_path / "b")
    assert registry.get("/api/v1/models/m")["latest"]["version"] == 3

    restore.restore(registry.services.settings, tmp_path / "b", replace=True)
    with registries.running(tmp_path / "old", stores=stores) as again:
        assert again.get("/api/v1/models/m")["latest"]["version"] == 2


@pytest.mark.parametrize("stores", ["sqlite+directory"], indirect=True)
def test_a_damaged_backup_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    """One bit, anywhere in what was packed; or an end that is missing."""
    make.make(registry.services.settings, tmp_path / "b")
    plain = zstandard.ZstdDecompressor().decompressobj().decompress((tmp_path / "b").read_bytes())
    rng = random.Random(7)
    for _ in range(40):
        place = rng.randrange(len(plain))
        flipped = plain[:place] + bytes([plain[place] ^ 0x10]) + plain[place + 1 :]
        bad = rng.choice([flipped, plain[:place]])
        (tmp_path / "bad").write_bytes(zstandard.ZstdCompressor().compress(bad))
        harmed = refused(tmp_path)
        assert harmed or unpacked(tmp_path / "bad", tmp_path / "x") == unpacked(
            tmp_path / "b", tmp_path / "y"
        )
        assert not (tmp_path / "new" / "authority").exists()


def refused(tmp_path: Path) -> bool:
    """Say whether unpacking the bad file raises an error of ours."""
    files.remove(tmp_path / "x")
    try:
        container.unpack(tmp_path / "bad", tmp_path / "x")
    except PackhorseError:
        return True
    return False


def unpacked(source: Path, directory: Path) -> container.Manifest:
    files.remove(directory)
    return container.unpack(source, directory)


@pytest.mark.parametrize("stores", ["sqlite+directory"], indirect=True)
def test_a_backup_of_the_first_format_is_still_read(registry: Registry, tmp_path: Path) -> None:
    """It ends with its manifest, of which it has no digest."""
    make.make(registry.services.settings, tmp_path / "b")
    repacked(tmp_path / "b", tmp_path / "first", format_=1, seal=False)

    restore.restore(Settings(data=tmp_path / "new"), tmp_path / "first")

    with registries.running(tmp_path / "new") as again:
        assert again.get("/api/v1/models/m")["latest"]["version"] == 2


@pytest.mark.parametrize("stores", ["sqlite+directory"], indirect=True)
def test_a_backup_of_this_format_has_a_digest_of_its_manifest(
    registry: Registry, tmp_path: Path
) -> None:
    make.make(registry.services.settings, tmp_path / "b")
    repacked(tmp_path / "b", tmp_path / "bad", format_=container.FORMAT, seal=False)

    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        container.unpack(tmp_path / "bad", tmp_path / "x")


@pytest.mark.parametrize("stores", ["sqlite+directory"], indirect=True)
def test_nothing_may_follow_the_end_of_a_backup(registry: Registry, tmp_path: Path) -> None:
    make.make(registry.services.settings, tmp_path / "b")
    repacked(tmp_path / "b", tmp_path / "bad", format_=container.FORMAT, seal=True, more=True)

    with pytest.raises(InvalidError, match="secrets/more"):
        container.unpack(tmp_path / "bad", tmp_path / "x")


def repacked(source: Path, target: Path, *, format_: int, seal: bool, more: bool = False) -> None:
    """Write a backup again, its manifest in another format, with or without its seal, or more."""
    packed = io.BytesIO()
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(source.read_bytes())
    with (
        tarfile.open(fileobj=io.BytesIO(plain)) as old,
        tarfile.open(fileobj=packed, mode="w") as new,
    ):
        for info in old:
            stream = old.extractfile(info)
            assert stream is not None
            data = stream.read()
            if info.name == container.MANIFEST:
                data = messages.canonical_json(json.loads(data) | {"format": format_})
                info.size = len(data)
            if info.name != container.SEAL or seal:
                new.addfile(info, io.BytesIO(data))
        if more:
            extra = tarfile.TarInfo("secrets/more")
            extra.size = 1
            new.addfile(extra, io.BytesIO(b"x"))
    target.write_bytes(zstandard.ZstdCompressor().compress(packed.getvalue()))


@pytest.mark.parametrize("stores", ["sqlite+directory"], indirect=True)
def test_a_backup_of_a_newer_packhorse_is_refused(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.make(registry.services.settings, tmp_path / "b")
    monkeypatch.setattr(database, "revisions", lambda: frozenset({"0001"}))

    with pytest.raises(ForeignDatabaseError, match="or newer"):
        restore.restore(Settings(data=tmp_path / "new"), tmp_path / "b")
    assert not (tmp_path / "new" / "registry.db").exists()


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "authority/../evil", "other"])
def test_a_hostile_member_is_refused(name: str, tmp_path: Path) -> None:
    with container.writing(tmp_path / "b") as writer:
        writer.add(name, 1, [b"x"])

    with pytest.raises(InvalidError):
        container.unpack(tmp_path / "b", tmp_path / "x")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("stores", ["sqlite+directory"], indirect=True)
def test_an_interrupted_restore_is_not_served_and_can_be_repeated(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.make(registry.services.settings, tmp_path / "b")
    settings = Settings(data=tmp_path / "new")

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mend, "mend", die)
        with pytest.raises(KeyboardInterrupt):
            restore.restore(settings, tmp_path / "b")
    with pytest.raises(UnfinishedError, match="packhorse restore"):
        unfinished.require_none(settings.data)

    restore.restore(settings, tmp_path / "b")
    unfinished.require_none(settings.data)


def test_what_is_no_registry_is_not_backed_up(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="directory of a registry"):
        make.make(Settings(data=tmp_path), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stores", ["sqlite+directory"], indirect=True)
def test_an_older_schema_is_not_backed_up_by_guessing(registry: Registry, tmp_path: Path) -> None:
    file = sqlite3.connect(tmp_path / "old" / "registry.db")
    file.execute("UPDATE alembic_version SET version_num = '0001'")
    file.commit()
    file.close()

    with pytest.raises(ForeignDatabaseError, match="start the registry once"):
        make.make(registry.services.settings, tmp_path / "b")
    assert not (tmp_path / "b").exists()
