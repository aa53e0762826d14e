import sqlite3
from contextlib import closing
from pathlib import Path

from cloud.simulation import changes


def test_each_commit_of_another_connection_is_seen_once(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE device (id TEXT)")
        with changes.of(path) as changed:
            assert [changed.any(), changed.any()] == [True, False]

            writer.execute("BEGIN")
            writer.execute("INSERT INTO device VALUES ('a')")
            assert not changed.any()
            writer.execute("COMMIT")

            assert [changed.any(), changed.any()] == [True, False]
