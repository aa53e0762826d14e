import contextlib
import random
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.telemetry import outboxfile
from edge_agent.telemetry.batcher import Packed
from edge_agent.telemetry.outbox import MAX_DEAD, MIN_CAP_BYTES, Intake, Outbox
from edge_agent.telemetry.outboxfile import OutboxError
from runtime import files
from runtime.errors import InvalidError, PackhorseError, SpaceError
from tests.support import filesystems, powercuts

NOW = 1_800_000_000.0
DAY_S = 86400.0


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.db", cap_bytes=MIN_CAP_BYTES)
    yield box
    box.close()


def _packed(kind: str = "result", size: int = 100, records: int = 10) -> Packed:
    return Packed(kind, records, random.Random(size).randbytes(size))


def _add(outbox: Outbox, *packed: Packed, now: float = NOW) -> list[int]:
    return outbox.add(Intake(batches=packed), now)


def _add_for_ever(outbox: Outbox) -> None:
    for _ in range(1000):
        _add(outbox, _packed(size=300_000))


def _sequences(outbox: Outbox) -> list[int]:
    return [waiting.sequence for waiting in outbox.pending(1000)]


def _reopened(outbox: Outbox, path: Path) -> Outbox:
    outbox.close()
    return Outbox(path, cap_bytes=MIN_CAP_BYTES)


def test_batches_cursors_and_positions_come_back_after_a_restart(
    outbox: Outbox, tmp_path: Path
) -> None:
    intake = Intake(
        batches=[_packed()],
        cursors={("digits", "1.log"): 40, ("digits", "2.log"): 7, ("other", "1.log"): 1},
        positions={("digits", "directory:/in"): "f.csv:3"},
        drops={"unreadable": 2},
    )
    outbox.add(intake, NOW)
    outbox.add(Intake(cursors={("digits", "2.log"): 9}, removed=[("digits", "1.log")]), NOW)

    again = _reopened(outbox, tmp_path / "outbox.db")

    assert again.epoch == outbox.epoch
    assert again.pending(10)[0][1:] == (1, 10, _packed().body)
    assert again.cursors("digits") == {"2.log": 9}
    assert again.positions("digits") == {"directory:/in": "f.csv:3"}
    assert again.positions("other") == {}
    assert again.stats().drops == {"unreadable": 2}
    again.close()


def test_numbers_are_never_used_again(outbox: Outbox, tmp_path: Path) -> None:
    assert _add(outbox, _packed(), _packed()) == [1, 2]
    outbox.delete([1, 2])

    again = _reopened(outbox, tmp_path / "outbox.db")

    assert _add(again, _packed()) == [3]
    again.close()


def test_the_most_important_and_oldest_goes_first(outbox: Outbox) -> None:
    _add(outbox, *map(_packed, ("debug", "result", "alarm", "made up", "result", "sample")))

    assert _sequences(outbox) == [3, 2, 5, 6, 1, 4]
    assert [waiting.sequence for waiting in outbox.pending(2, skip=[3, 2])] == [5, 6]


def test_deleting_what_is_not_there_is_fine(outbox: Outbox) -> None:
    _add(outbox, _packed())

    assert outbox.delete([1, 17]) == 1
    assert outbox.delete([1]) == 0


def test_rejected_batches_are_counted_as_drops(outbox: Outbox) -> None:
    _add(outbox, _packed(records=4), _packed(records=5))

    outbox.delete([1, 2], drop="rejected")
    outbox.delete([1], drop="rejected")

    assert outbox.stats().drops == {"rejected": 9}


def test_over_the_cap_the_oldest_of_the_lowest_class_goes(outbox: Outbox) -> None:
    """An alarm is never given up for a result, nor a result for a debug record."""
    size = 400_000
    _add(outbox, _packed("alarm", size))
    _add(outbox, *[_packed("debug", size, records=1) for _ in range(6)])
    added = 0
    while outbox.stats().drops.get("evicted", 0) < 8:
        _add(outbox, _packed("result", size, records=1))
        added += 1

    stats = outbox.stats()
    assert _sequences(outbox) == [1, *range(10, 8 + added)]
    assert stats.drops == {"evicted": 8}
    assert stats.disk_bytes <= MIN_CAP_BYTES
    assert _add(outbox, _packed("debug", size, records=3)) == []
    assert outbox.stats().drops == {"evicted": 11}


def test_bytes_on_disk_stay_below_the_cap_and_fall_after_acknowledgements(
    outbox: Outbox, tmp_path: Path
) -> None:
    most = 0
    for _ in range(60):
        _add(outbox, _packed(size=300_000))
        most = max(most, sum(path.stat().st_size for path in tmp_path.iterdir()))
    full = outbox.stats().disk_bytes

    for sequence in _sequences(outbox):
        outbox.delete([sequence])

    assert full > 4 << 20
    assert most <= MIN_CAP_BYTES
    assert outbox.stats().disk_bytes < 2 << 20
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2 << 20


def test_a_class_that_waited_too_long_goes_but_an_alarm_stays(outbox: Outbox) -> None:
    _add(outbox, *map(_packed, ("alarm", "result", "sample", "debug")))

    _add(outbox, now=NOW + 3 * DAY_S)
    assert _sequences(outbox) == [1, 2, 3]
    _add(outbox, now=NOW + 1000 * DAY_S)
    assert _sequences(outbox) == [1]
    assert outbox.stats().drops == {"expired": 30}


@pytest.mark.parametrize(("then", "now"), [(0.0, NOW), (NOW, 0.0), (NOW + 1000 * DAY_S, NOW)])
def test_a_wrong_clock_expires_nothing(outbox: Outbox, then: float, now: float) -> None:
    """A device boots in 1970, then learns the time; or the other way round."""
    _add(outbox, _packed("debug"), now=then)
    _add(outbox, now=now)

    assert _sequences(outbox) == [1]


def test_a_buried_batch_is_out_of_the_way_counted_and_bounded(outbox: Outbox) -> None:
    _add(outbox, *[_packed(records=2) for _ in range(MAX_DEAD + 2)])

    for sequence in range(1, MAX_DEAD + 2):
        outbox.bury(sequence, "poison")

    assert _sequences(outbox) == [MAX_DEAD + 2]
    assert outbox.stats().dead == MAX_DEAD
    assert outbox.stats().drops == {"poison": 2 * (MAX_DEAD + 1)}


def test_the_file_and_its_log_are_private(outbox: Outbox, tmp_path: Path) -> None:
    _add(outbox, _packed())

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"outbox.db": 0o600, "outbox.db-wal": 0o600}


def test_a_cap_that_is_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="cap_bytes"):
        Outbox(tmp_path / "outbox.db", cap_bytes=1000)


@pytest.mark.parametrize("damage", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_file_is_set_aside_at_start_and_a_new_epoch_begins(
    outbox: Outbox, tmp_path: Path, damage: bytes
) -> None:
    _add(outbox, _packed())
    outbox.close()
    (tmp_path / "outbox.db").write_bytes(damage)

    again = Outbox(tmp_path / "outbox.db")

    assert again.pending(10) == []
    assert [path.read_bytes() for path in again.set_aside] == [damage]
    assert _add(again, _packed()) == [1]
    again.close()


def test_only_the_newest_damaged_files_are_kept(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    epochs = set()
    for _ in range(12):
        (tmp_path / "outbox.db").write_bytes(b"garbage" * 1000)
        epochs.add(outbox.epoch)
        outbox.close()

    assert len(epochs) == 12
    assert [path.suffix for path in outbox.set_aside] == [".corrupt-11", ".corrupt-12"]


def test_progress_outlives_damage_found_while_running(outbox: Outbox, tmp_path: Path) -> None:
    """Cursors are carried into the new file, so that no record comes twice."""
    first = outbox.epoch
    for _ in range(40):
        outbox.add(Intake([_packed(size=50_000)], {("m", "1.log"): 5}, {("m", "s"): "5"}), NOW)
    outbox.delete(range(2, 40))
    with (tmp_path / "outbox.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xaa" * 4096 * 400)
    with (tmp_path / "outbox.db-wal").open("r+b") as log:
        log.write(b"\xaa" * (tmp_path / "outbox.db-wal").stat().st_size)

    with pytest.raises(OutboxError, match="set aside"):
        _add_for_ever(outbox)

    assert outbox.epoch != first
    assert outbox.cursors("m") == {"1.log": 5}
    outbox.close()
    again = Outbox(tmp_path / "outbox.db")
    assert again.positions("m") == {"s": "5"}
    again.close()


def test_a_second_process_is_told_that_one_runs_already(outbox: Outbox, tmp_path: Path) -> None:
    _add(outbox, _packed())
    second = sqlite3.connect(tmp_path / "outbox.db", timeout=0.0)

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        second.execute("SELECT * FROM batches")

    second.close()


@pytest.mark.parametrize("steps", range(4))
def test_a_power_cut_keeps_all_of_a_transaction_or_nothing(
    outbox: Outbox, tmp_path: Path, steps: int
) -> None:
    _add(outbox, _packed())
    intake = Intake([_packed(), _packed()], {("m", "1.log"): 5}, {("m", "s"): "5"})
    copy = tmp_path / "copy"
    copy.mkdir()

    with powercuts.after(steps):
        outbox.add(intake, NOW)
    for path in tmp_path.glob("outbox.db*"):
        shutil.copy(path, copy)

    again = Outbox(copy / "outbox.db")
    whole = steps > 1
    assert _sequences(again) == ([1, 2, 3] if whole else [1])
    assert again.cursors("m") == ({"1.log": 5} if whole else {})
    assert again.positions("m") == ({"s": "5"} if whole else {})
    again.close()


def test_the_outbox_leaves_room_on_the_disk_and_takes_again_when_there_is_more() -> None:
    with filesystems.of_size(megabytes=8) as disk:
        outbox = Outbox(disk / "outbox.db", cap_bytes=MIN_CAP_BYTES)
        with pytest.raises(SpaceError, match="make room"):
            _add_for_ever(outbox)
        added = _sequences(outbox)
        assert len(added) > 3
        assert files.free_bytes(disk) > 2 << 20

        for sequence in added:
            outbox.delete([sequence])
        assert _add(outbox, _packed(size=300_000)) == [len(added) + 1]
        outbox.close()


def test_a_disk_that_others_fill_changes_nothing_and_heals() -> None:
    with filesystems.of_size(megabytes=8) as disk:
        outbox = Outbox(disk / "outbox.db", cap_bytes=MIN_CAP_BYTES)
        _add(outbox, *[_packed(size=100_000) for _ in range(3)])
        filler = disk / "filler"
        filler.write_bytes(bytes(files.free_bytes(disk)))

        with pytest.raises(SpaceError):
            _add(outbox, _packed())
        for _ in range(20):
            with contextlib.suppress(SpaceError):
                outbox.delete([1])
        assert _sequences(outbox)[-2:] == [2, 3]

        filler.unlink()
        outbox.delete([1, 2])
        assert _add(outbox, _packed()) == [4]
        assert _sequences(outbox) == [3, 4]
        outbox.close()


def test_a_disk_that_is_full_from_the_start_is_an_error_to_be_tried_again() -> None:
    with filesystems.of_size(megabytes=8) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(files.free_bytes(disk) - 4096))
        outbox = Outbox(disk / "outbox.db")
        with pytest.raises(PackhorseError) as caught:
            _add(outbox, _packed())
        assert caught.value.retryable

        filler.unlink()
        assert _add(outbox, _packed()) == [1]
        outbox.close()


def test_a_small_batch_costs_the_flash_little_and_its_acknowledgement_nothing(
    outbox: Outbox, tmp_path: Path
) -> None:
    """iotedge#1274: database writes wear the SD card. A commit is one write of few small pages."""
    log = tmp_path / "outbox.db-wal"
    _add(outbox, _packed(size=200))
    with powercuts.after(None) as steps:
        before = log.stat().st_size
        for number in range(1, 101):
            outbox.delete([number])
            cursors = {("digits", "0000000000000001-00000000.log"): 200 * number}
            outbox.add(Intake([_packed(size=200)], cursors), NOW)
        written = log.stat().st_size - before

    assert steps.seen == 3 * 100
    assert written <= 100 * 3000
    assert _sequences(outbox) == [101]


def test_what_is_acknowledged_is_gone_at_once_and_for_good_with_the_next_commit(
    outbox: Outbox, tmp_path: Path
) -> None:
    _add(outbox, _packed(), _packed("sample"), now=NOW)
    _add(outbox, _packed(), now=NOW + 5)
    assert (outbox.delete([1, 2]), outbox.delete([1, 2])) == (2, 0)

    stats = outbox.stats()
    assert (stats.batches, stats.records, stats.body_bytes) == (1, 10, 100)
    assert stats.oldest_at == NOW + 5
    assert outbox.waiting(1) is None

    shutil.copytree(tmp_path, tmp_path.with_suffix(".killed"))
    killed = Outbox(tmp_path.with_suffix(".killed") / "outbox.db")
    assert _sequences(killed) == [1, 3, 2], "the registry knows them"
    killed.close()
    again = _reopened(outbox, tmp_path / "outbox.db")
    assert _sequences(again) == [3]
    again.close()


def test_room_that_is_worth_a_commit_is_given_back_at_once(outbox: Outbox) -> None:
    numbers = _add(outbox, *[_packed(size=40_000) for _ in range(4)])

    with powercuts.after(None) as steps:
        outbox.delete(numbers)

    assert steps.seen == 3


def test_a_file_of_an_earlier_version_is_written_anew_with_small_pages(
    outbox: Outbox, tmp_path: Path
) -> None:
    path = tmp_path / "outbox.db"
    numbers, epoch = _add(outbox, _packed(), _packed(size=20_000)), outbox.epoch
    outbox.close()
    with contextlib.closing(sqlite3.connect(path)) as rows:
        rows.executescript("PRAGMA journal_mode = DELETE; PRAGMA page_size = 4096; VACUUM;")

    again = Outbox(path)

    assert (again.epoch, _sequences(again)) == (epoch, numbers)
    assert again.pending(10)[1].body == _packed(size=20_000).body
    assert _add(again, _packed()) == [3]
    again.close()
    with contextlib.closing(sqlite3.connect(path)) as rows:
        assert rows.execute("PRAGMA page_size").fetchone() == (outboxfile.PAGE_BYTES,)
        assert rows.execute("PRAGMA journal_mode").fetchone() == ("wal",)
