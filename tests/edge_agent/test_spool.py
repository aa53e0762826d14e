import os
import random
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge_agent.telemetry import segments
from edge_agent.telemetry.spool import SpoolReader, SpoolWriter
from runtime.errors import InvalidError, SpaceError

COUNT_ALOUD = """
import os, sys
from pathlib import Path
from edge_agent.telemetry.spool import SpoolWriter
writer = SpoolWriter(Path(sys.argv[1]), segment_bytes=4096)
for number in range(int(sys.argv[2]), 1 << 40):
    writer.append(b"%d " % number + bytes(number % 97))
    os.write(1, b"%d\\n" % number)
"""
WRITE_LIMITED = """
import resource, sys
from pathlib import Path
from edge_agent.telemetry.spool import SpoolWriter
from runtime.errors import SpaceError
writer = SpoolWriter(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
writer.append(b"first" * 100)
try:
    writer.append(b"second" * 200)
except SpaceError as error:
    print(error)
writer.append(b"third" * 20)
"""


def _all(reader: SpoolReader, cursors: dict[str, int], limit: int = 100) -> list[bytes]:
    payloads = []
    while frames := reader.read(cursors, limit):
        payloads += [frame.payload for frame in frames]
        cursors[frames[-1].segment] = frames[-1].end
    return payloads


def _sweep(reader: SpoolReader, cursors: dict[str, int]) -> None:
    for segment in reader.finished(cursors):
        reader.remove(segment, cursors.get(segment, 0))


def _spawn(program: str, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE)


def test_what_is_appended_is_read_in_order_across_segments(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, segment_bytes=100)
    sent = [b"payload %d" % number for number in range(50)]
    for payload in sent:
        writer.append(payload)

    assert _all(SpoolReader(tmp_path), {}, limit=7) == sent
    assert len(segments.names(tmp_path)) > 5


def test_a_segment_is_removed_once_its_writer_is_gone_and_all_of_it_was_taken(
    tmp_path: Path,
) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(b"a")
    reader = SpoolReader(tmp_path)
    cursors: dict[str, int] = {}
    writer.append(b"b")

    assert reader.finished(cursors) == []
    assert _all(reader, cursors) == [b"a", b"b"]
    assert reader.finished(cursors) == []
    writer.append(b"c")
    writer.close()
    assert reader.finished(cursors) == []
    assert _all(reader, cursors) == [b"c"]
    _sweep(reader, cursors)
    assert list(tmp_path.iterdir()) == []


def test_a_new_segment_never_has_a_name_that_a_cursor_may_still_know(tmp_path: Path) -> None:
    names = set()
    for _ in range(20):
        writer = SpoolWriter(tmp_path)
        writer.append(b"x")
        writer.close()
        names.update(segments.names(tmp_path))
        _sweep(SpoolReader(tmp_path), dict.fromkeys(names, 9))

    assert len(names) == 20


def test_segments_are_private(tmp_path: Path) -> None:
    SpoolWriter(tmp_path / "spool").append(b"x")

    (segment,) = (tmp_path / "spool").iterdir()
    assert stat.S_IMODE(segment.stat().st_mode) == 0o600
    assert stat.S_IMODE(segment.parent.stat().st_mode) == 0o700


def test_two_writers_share_a_spool(tmp_path: Path) -> None:
    first, second = SpoolWriter(tmp_path), SpoolWriter(tmp_path)
    for number in range(10):
        (first, second)[number % 2].append(b"%d" % number)

    payloads = _all(SpoolReader(tmp_path), {})

    assert sorted(payloads) == [b"%d" % number for number in range(10)]


def test_many_threads_append_whole_frames(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, segment_bytes=2000)

    def work(name: int) -> None:
        for number in range(100):
            writer.append(b"%d %d " % (name, number) + bytes(name * 10))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    seen = [payload.split()[:2] for payload in _all(SpoolReader(tmp_path), {})]
    for name in range(4):
        mine = [int(number) for who, number in seen if int(who) == name]
        assert mine == list(range(100))


@pytest.mark.parametrize("size", [0, segments.MAX_PAYLOAD_BYTES + 1])
def test_a_payload_of_no_or_too_many_bytes_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(InvalidError, match="payload"):
        SpoolWriter(tmp_path).append(bytes(size))


def test_a_full_spool_refuses_and_takes_again_when_it_was_read(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, cap_bytes=10_000, segment_bytes=1000)
    for _ in range(10_000 // 100):
        writer.append(bytes(92))
    with pytest.raises(SpaceError, match="make room"):
        writer.append(b"one more")
    reader = SpoolReader(tmp_path)
    cursors: dict[str, int] = {}

    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000
    assert len(_all(reader, cursors)) == 100
    _sweep(reader, cursors)
    writer.append(b"again")
    assert _all(reader, cursors) == [b"again"]


def test_a_short_write_leaves_nothing_of_its_frame(tmp_path: Path) -> None:
    """The kernel takes 1000 bytes of a file and no more: as a disk that fills up does."""
    done = subprocess.run(
        [sys.executable, "-c", WRITE_LIMITED, str(tmp_path)], check=True, capture_output=True
    )
    reader = SpoolReader(tmp_path)
    cursors: dict[str, int] = {}

    assert b"make room" in done.stdout
    assert _all(reader, cursors) == [b"first" * 100, b"third" * 20]
    _sweep(reader, cursors)
    assert (reader.torn, reader.bad) == (0, 0)


def test_a_torn_tail_ends_the_segment_and_is_counted(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(b"whole")
    writer.append(b"torn by a kill")
    writer.close()
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - 3)
    SpoolWriter(tmp_path).append(b"next")
    reader = SpoolReader(tmp_path)
    cursors: dict[str, int] = {}

    assert _all(reader, cursors) == [b"whole", b"next"]
    _sweep(reader, cursors)
    assert (reader.torn, reader.bad) == (1, 0)


@pytest.mark.parametrize("place", [0, 4, 12])
def test_a_damaged_segment_is_set_aside_and_the_next_is_read(tmp_path: Path, place: int) -> None:
    """A bit flips in the length, in the checksum, in the payload of the second frame."""
    writer = SpoolWriter(tmp_path)
    for payload in (b"good", b"to be damaged", b"behind it"):
        writer.append(payload)
    writer.close()
    SpoolWriter(tmp_path).append(b"next")
    (path, _) = sorted(tmp_path.iterdir())
    data = bytearray(path.read_bytes())
    data[12 + place] ^= 0x40
    path.write_bytes(data)
    reader = SpoolReader(tmp_path)
    cursors: dict[str, int] = {}

    assert _all(reader, cursors) == [b"good", b"next"]
    _sweep(reader, cursors)
    assert reader.bad == 1
    assert path.with_suffix(".bad").read_bytes() == data
    assert not path.exists()


def test_zeros_left_by_a_power_cut_are_no_frames(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(b"whole")
    writer.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + bytes(4096))
    reader = SpoolReader(tmp_path)
    cursors: dict[str, int] = {}

    assert _all(reader, cursors) == [b"whole"]
    _sweep(reader, cursors)
    assert reader.bad == 1


def test_only_the_newest_damaged_segments_are_kept(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number:016d}-00000000.log").write_bytes(b"\xff" * 20)

    _sweep(SpoolReader(tmp_path), {})

    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == [f"{number:016d}-00000000.bad" for number in range(3, 7)]


def test_a_cursor_behind_what_a_power_cut_left_is_an_end(tmp_path: Path) -> None:
    name = "0000000000000001-00000000.log"
    (tmp_path / name).write_bytes(b"")
    reader = SpoolReader(tmp_path)

    assert reader.read({name: 4711}, 10) == []
    assert reader.finished({name: 4711}) == [name]


def test_unknown_files_and_unfinished_segments_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README").write_bytes(b"hands off")
    (tmp_path / ".0000000000000001-00000000.new").write_bytes(b"")
    reader = SpoolReader(tmp_path)

    assert reader.read({}, 10) == []
    assert reader.finished({}) == []
    SpoolWriter(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README"]


def test_a_spool_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert SpoolReader(tmp_path / "none").read({}, 10) == []


def test_every_append_that_returned_survives_kill_9_exactly_once_in_order(tmp_path: Path) -> None:
    rng = random.Random(7)
    reader = SpoolReader(tmp_path)
    cursors: dict[str, int] = {}
    read: list[int] = []
    for _ in range(6):
        child = _spawn(COUNT_ALOUD, str(tmp_path), str(len(read)))
        assert child.stdout is not None
        until = rng.randrange(20, 400)
        said = [int(child.stdout.readline()) for _ in range(until)]
        read += [int(payload.split()[0]) for payload in _all(reader, cursors)]
        child.send_signal(signal.SIGKILL)
        said += [int(line) for line in child.stdout.read().splitlines()]
        child.wait()
        child.stdout.close()
        read += [int(payload.split()[0]) for payload in _all(reader, cursors)]
        _sweep(reader, cursors)

        assert read == list(range(len(read)))
        assert said[-1] <= read[-1] <= said[-1] + 1
        assert segments.names(tmp_path) == []
