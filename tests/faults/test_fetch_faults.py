import itertools
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cloud.storage.encodings import Recipe
from edge_agent.bundles import partfile
from edge_agent.bundles.fetch import Fetcher
from runtime import digests, files
from runtime.bundle import encodings, parts
from runtime.bundle.blobs import BlobStore
from runtime.bundle.build import Built
from runtime.bundle.parts import PART_BYTES
from runtime.errors import SpaceError
from runtime.retry import Backoff
from tests.support import filesystems, powercuts, processes
from tests.support.bundle_sources import write_bundle
from tests.support.fetch_process import fetcher_in
from tests.support.httpfiles import NO_FAULT, Fault, FileServer

KILLS = 20
HUGE = random.Random(3).randbytes(48 * PART_BYTES)
MEDIUM = random.Random(4).randbytes(6 * PART_BYTES + 100)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    with FileServer(tmp_path / "registry").running() as running:
        yield running


def serve(server: FileServer, source: Path, data: bytes) -> Built:
    """Serve a bundle with one file of this content, encoded already."""
    source = write_bundle(source)
    (source / "table.bin").write_bytes(data)
    built = server.add(source)
    for digest in (built.digest, *built.files):
        server.offer(digest)
    return built


def wire_bytes(server: FileServer, built: Built) -> int:
    """Return what an undisturbed fetch costs."""
    made = [server.encodings.get(Recipe(digest, "zstd")) for digest in (built.digest, *built.files)]
    return sum(one.table.encoded_size + len(one.table_bytes) for one in made)


def require_all(built: Built, device: BlobStore) -> None:
    assert set(device.digests()) == {built.digest, *built.files}
    for digest in device.digests():
        device.check(digest)


def test_twenty_kills_cost_next_to_nothing(server: FileServer, tmp_path: Path) -> None:
    built = serve(server, tmp_path / "source", HUGE)
    device = tmp_path / "device"
    total = wire_bytes(server, built)
    server.bytes_per_s = 100e6
    moments = sorted(random.Random(5).randrange(total) for _ in range(KILLS))
    command = [sys.executable, "-m", "tests.support.fetch_process", server.url, str(device)]
    for moment in moments:
        with subprocess.Popen([*command, built.digest]) as process:
            server.wait_until_sent(moment)
            process.kill()
            assert process.wait() == -9

    assert subprocess.run([*command, built.digest], check=True, timeout=60).returncode == 0

    require_all(built, BlobStore(device / "blobs"))
    assert list((device / "work").iterdir()) == []
    assert server.sent_bytes <= 1.05 * total


OLD = MEDIUM[:PART_BYTES]
NEW = OLD[:1000] + random.Random(8).randbytes(3 * PART_BYTES) + OLD[1000:]
PATCH = Recipe(digests.of_bytes(NEW), encodings.PATCH, digests.of_bytes(OLD))


@pytest.fixture
def update(server: FileServer, tmp_path: Path) -> tuple[list[str], Built]:
    """The command of a device that fetches a new version, which comes as a delta to its old one."""
    old, new = (serve(server, tmp_path / name, data) for name, data in (("old", OLD), ("new", NEW)))
    server.encodings.get(PATCH)
    server.deltas[PATCH.blob] = PATCH
    device = tmp_path / "device"
    fetcher_in(device, f"{server.url}/ask").fetch(old.digest)
    command = [sys.executable, "-m", "tests.support.fetch_process", server.url, str(device)]
    server.sent_bytes = 0
    server.requests.clear()
    return [*command, new.digest, old.digest], new


def encodings_sent(server: FileServer) -> set[str]:
    """Return the encodings in which the new file was asked for."""
    return {path.split("/")[2] for path, _ in server.requests if PATCH.blob in path}


def test_kills_during_a_delta_cost_next_to_nothing(
    server: FileServer, update: tuple[list[str], Built], tmp_path: Path
) -> None:
    command, new = update
    made = server.encodings.get(PATCH)
    total = made.table.encoded_size
    server.bytes_per_s = 20e6
    for moment in (total // 5, total // 2, total * 4 // 5):
        with subprocess.Popen(command) as process:
            server.wait_until_sent(moment)
            process.kill()
            assert process.wait() == -9

    assert subprocess.run(command, check=True, timeout=60).returncode == 0

    BlobStore(tmp_path / "device" / "blobs").check(PATCH.blob)
    assert encodings_sent(server) == {"patch"}
    assert server.sent_bytes < 1.1 * total
    assert new.digest in command


@pytest.mark.parametrize(("kills", "travelled"), [(1, {"patch"}), (2, {"patch", "zstd"})])
def test_a_device_that_dies_while_it_decodes_goes_on_once_and_then_takes_the_whole(
    server: FileServer,
    update: tuple[list[str], Built],
    tmp_path: Path,
    kills: int,
    travelled: set[str],
) -> None:
    """One death may be a power cut; a second one is the delta's."""
    command, _ = update
    device = BlobStore(tmp_path / "device" / "blobs")
    doubt = tmp_path / "device" / "work" / f"{PATCH.blob}.doubt"
    for kill in range(kills):
        with subprocess.Popen(command) as process:
            processes.eventually(
                lambda known=kill: doubt.exists() and doubt.read_bytes() == b"%d\n" % (known + 1),
                "the decoder runs",
            )
            children = psutil.Process(process.pid).children()
            process.kill()
            process.wait()
        assert all(child.wait(10) in {None, -9} for child in children)
        assert not device.has(PATCH.blob)

    assert subprocess.run(command, check=True, timeout=60).returncode == 0

    device.check(PATCH.blob)
    assert encodings_sent(server) == travelled
    assert list((tmp_path / "device" / "work").iterdir()) == []


def test_twenty_cuts_and_every_other_fault_cost_next_to_nothing(
    server: FileServer, tmp_path: Path
) -> None:
    """Cuts at any byte, a server error now and then, and offers that expire."""
    built = serve(server, tmp_path / "source", HUGE)
    total = wire_bytes(server, built)
    rng = random.Random(6)
    faults = [Fault(cut_after=rng.randrange(PART_BYTES)) for _ in range(KILLS)]
    faults += [Fault(status=500), Fault(status=502), Fault(status=403), Fault(close=True)] * 2
    faults += [Fault(flip_byte=rng.randrange(PART_BYTES))]
    faults += [NO_FAULT] * 20
    rng.shuffle(faults)
    server.plan = lambda _path, number: (
        faults[number - 4] if 4 <= number < len(faults) + 4 else NO_FAULT
    )

    device = BlobStore(tmp_path / "device" / "blobs")
    fetcher_in(tmp_path / "device", f"{server.url}/ask").fetch(built.digest)

    require_all(built, device)
    assert server.sent_bytes <= 1.05 * total


def test_a_power_cut_at_any_durable_write_is_survived(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not durable is garbage afterwards, and is found out."""
    monkeypatch.setattr(partfile, "SYNC_PARTS", 2)
    built = serve(server, tmp_path / "source", MEDIUM)
    big = digests.of_bytes(MEDIUM)
    table = server.encodings.get(Recipe(big, "zstd")).table
    for steps in itertools.count():
        device = tmp_path / f"device-{steps}"
        with powercuts.after(steps) as counted:
            fetcher_in(device, f"{server.url}/ask").fetch(built.digest)
        if counted.seen < steps:
            break
        spoil_what_was_not_durable(device, table, server.offer(big).parts_sha256)

        fetcher_in(device, f"{server.url}/ask").fetch(built.digest)

        require_all(built, BlobStore(device / "blobs"))
        assert list((device / "work").iterdir()) == []
    assert steps > 15


def spoil_what_was_not_durable(device: Path, table: parts.PartTable, sha256: str) -> None:
    """Write garbage over every byte that no bitmap promises."""
    path, bitmap_path = partfile.paths(device / "work", table.blob, "zstd")
    if not path.exists():
        return
    bitmap = bitmap_path.read_bytes() if bitmap_path.exists() else b""
    durable = partfile.decode_bitmap(bitmap, digests.parse(sha256), len(table.parts))
    content = bytearray(path.read_bytes())
    for part, is_durable in enumerate(durable):
        start, stop = table.span(part)
        if not is_durable:
            content[start:stop] = b"\xa5" * len(content[start:stop])
    path.write_bytes(content)


def test_a_disk_that_fills_up_on_the_way_is_said_and_resumed(
    server: FileServer, tmp_path: Path
) -> None:
    built = serve(server, tmp_path / "source", MEDIUM)
    with filesystems.of_size(megabytes=16) as place:
        fetcher = fetcher_in(place, f"{server.url}/ask")
        ballast = place / "ballast"

        def fill(done: int, _total: int) -> None:
            """Somebody else writes too."""
            if done > 2 * PART_BYTES and not ballast.exists():
                ballast.write_bytes(bytes(files.free_bytes(place)))

        with pytest.raises(SpaceError, match="make room"):
            fetcher.fetch(built.digest, progress=fill)
        so_far = len(server.requests)
        with pytest.raises(SpaceError, match="make room"):
            fetcher.fetch(built.digest)
        assert len(server.requests) == so_far

        ballast.unlink()
        fetcher.fetch(built.digest)
        require_all(built, fetcher.blobs)
        assert server.sent_bytes <= 1.05 * wire_bytes(server, built)


def test_a_disk_that_is_too_small_is_said_before_the_download(
    server: FileServer, tmp_path: Path
) -> None:
    built = serve(server, tmp_path / "source", MEDIUM)
    with filesystems.of_size(megabytes=8) as place:
        device = BlobStore(place / "blobs")
        fetcher = Fetcher(
            device,
            place / "work",
            server.answer,
            None,
            reserve_bytes=100_000,
            backoff=Backoff(first_s=0.01, most_s=0.1),
        )
        with pytest.raises(SpaceError, match="make room"):
            fetcher.fetch(built.digest)

        assert list(device.digests()) == [built.digest]
        assert list(fetcher.work.iterdir()) == []
