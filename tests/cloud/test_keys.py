from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud import database, tables
from cloud.errors import KeyRefusedError
from cloud.registry.roles import Role
from cloud.services import Services
from cloud.trust import keys
from cloud.trust.keys import Caller
from tests.support import registries
from tests.support.registries import SetClock


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made = registries.services(tmp_path, clock=SetClock())
    yield made
    made.engine.dispose()


def ensure(services: Services) -> str | None:
    return keys.ensure_admin(services.engine, services.settings.secrets_directory, now=1.0)


def test_the_admin_key_is_made_once_and_works(services: Services) -> None:
    key = ensure(services)

    assert key is not None
    assert key.startswith("phk_")
    assert ensure(services) is None
    with services.reading() as session:
        assert keys.authenticate(session, key) == Caller("admin", Role.ADMIN)


def test_a_start_that_was_killed_before_its_commit_keeps_the_key(services: Services) -> None:
    key = ensure(services)
    with services.transaction() as session:
        session.delete(session.get(tables.ApiKey, 1))

    assert ensure(services) == key


def test_only_the_digest_of_a_key_is_in_the_database(services: Services, tmp_path: Path) -> None:
    key = ensure(services)
    services.engine.dispose()

    stored = b"".join(path.read_bytes() for path in tmp_path.glob("registry.db*"))
    assert key is not None
    assert key.encode() not in stored
    assert keys.hashed(key).encode() in stored
    secret = services.settings.secrets_directory / "admin.key"
    assert secret.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("key", ["", "phk_", "phk_" + "A" * 43, "x" * 100_000])
def test_other_keys_are_refused(services: Services, key: str) -> None:
    ensure(services)

    with services.reading() as session, pytest.raises(KeyRefusedError):
        keys.authenticate(session, key)


def test_a_revoked_key_is_refused(services: Services) -> None:
    key = ensure(services)
    assert key is not None
    with database.transaction(services.engine) as session:
        row = session.get(tables.ApiKey, 1)
        assert row is not None
        row.revoked_at = 2.0

    with services.reading() as session, pytest.raises(KeyRefusedError):
        keys.authenticate(session, key)
