"""Delta files, made and applied: sizes, memory, power cuts, kills, and the golden one."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime import digests
from runtime.bundle import encodings
from runtime.bundle.blobs import BlobStore
from runtime.bundle.delta import apply, show, write
from runtime.bundle.delta.apply import Limits
from runtime.bundle.delta.format import header_of
from runtime.bundle.delta.plan import Change, Copy, ElementType, Fresh, Segment
from runtime.errors import IntegrityError, InvalidError
from tests.support import delta_files, powercuts
from tests.support.delta_files import Files

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
FP32, BYTES = ElementType.FP32, ElementType.BYTES
PLAN: list[Segment] = [
    Fresh(7), Change(3, 400_000, FP32), Fresh(2000, FP32), Copy(400_003, 5),
]  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A model of 100,000 weights at an odd offset, a new head, and some text."""
    files = Files(tmp_path_factory.mktemp("tuned"))
    old, new = delta_files.fine_tuned(FP32, 100_000)
    head = np.random.default_rng(3).normal(0, 1, 500).astype("<f4").tobytes()
    files.write(b"v1:" + old + b"tail!", b"v2.0.0:" + new + head + b"tail!", PLAN,
                encoding="tensor-delta")  # fmt: skip
    return files


def test_a_delta_makes_the_new_file_of_the_old_one(tuned: Files) -> None:
    assert tuned.applied() == tuned.new.read_bytes()
    assert tuned.delta.stat().st_size < 0.54 * tuned.new.stat().st_size


def test_the_same_files_give_the_same_delta(tuned: Files, files: Files) -> None:
    """A device half-way through a download can go on."""
    files.write(tuned.old.read_bytes(), tuned.new.read_bytes(), PLAN, encoding="tensor-delta")

    assert files.delta.read_bytes() == tuned.delta.read_bytes()


def test_a_description_accounts_for_every_byte(tuned: Files) -> None:
    found = show.describe(tuned.delta)

    assert found.header.base is not None
    assert found.header.base.sha256 == digests.of_file(tuned.old)
    assert {share.what: share.new_bytes for share in found.shares} == {
        "copy": 5, "fresh bytes": 7, "fresh fp32": 2000, "change fp32": 400_000,
    }  # fmt: skip
    assert {share.what: list(share.modes) for share in found.shares}["change fp32"] == ["residual"]
    coded = sum(share.delta_bytes for share in found.shares)
    assert coded + found.overhead_bytes == found.file_bytes == tuned.delta.stat().st_size
    assert found.header.memory_bytes == header_of(tuned.delta).memory_bytes


def test_a_delta_of_a_small_file_is_small(files: Files) -> None:
    old = "".join(f"line {number}: weights\n" for number in range(100)).encode()
    files.write(old, old[:1000] + b"!" + old[1000:], [Copy(0, 1000), Fresh(1),
                Copy(1000, len(old) - 1000)], encoding="patch")  # fmt: skip

    assert files.delta.stat().st_size <= 110
    assert files.applied() == files.new.read_bytes()


@pytest.mark.parametrize("old", [None, b"", b"old"])
def test_an_empty_file_comes_of_anything(files: Files, old: bytes | None) -> None:
    files.write(old, b"", [], encoding="patch")

    assert files.applied() == b""


def test_a_file_like_the_old_one_is_packed_in_its_light(files: Files) -> None:
    """Without a single segment that names the old file."""
    old = np.random.default_rng(1).bytes(60_000)
    files.write(old, old[30_000:] + b"and" + old[:30_000], [Fresh(60_003)], encoding="patch")

    assert files.delta.stat().st_size < 300
    assert files.applied() == files.new.read_bytes()
    (share,) = show.describe(files.delta).shares
    assert share.modes == {"prefix": 1}


def test_weights_that_have_nothing_to_do_with_the_old_ones_cost_what_they_cost_alone(
    files: Files, tmp_path: Path
) -> None:
    old = delta_files.fine_tuned(FP32, 50_000, seed=1)[0]
    new = delta_files.fine_tuned(FP32, 50_000, seed=2)[0]
    files.write(old, new, [Change(0, len(new), FP32)], encoding="tensor-delta")
    (tmp_path / "alone").mkdir()
    alone = Files(tmp_path / "alone")
    alone.write(None, new, [Fresh(len(new), FP32)], encoding="planes")

    assert files.delta.stat().st_size <= alone.delta.stat().st_size + 40
    assert alone.delta.stat().st_size < 0.84 * len(new)


BAD_PLANS: list[list[Segment]] = [
    [],
    [Copy(0, 9)],
    [Copy(0, 11)],
    [Copy(95, 10)],
    [Copy(-1, 10)],
    [Copy(0, 10), Fresh(0)],
    [Change(0, 10, FP32)],
    [Fresh(5), Fresh(5, ElementType.FP16)],
]


@pytest.mark.parametrize("plan", BAD_PLANS)
def test_a_plan_that_does_not_make_the_new_file_is_refused(
    files: Files, plan: Sequence[Segment]
) -> None:
    with pytest.raises(InvalidError, match="plan"):
        files.write(bytes(100), bytes(10), plan, encoding="patch")
    assert not files.delta.exists()


def test_many_segments_of_many_sorts_come_back(files: Files) -> None:
    """More than one section, blocks of every lane, segments that cross blocks."""
    random = np.random.default_rng(4)
    old = random.bytes(1 << 20)
    plan: list[Segment] = []
    made = bytearray()
    for number in range(70_000):
        place, kind = int(random.integers(0, 1_000_000)), number % 3
        piece = old[place : place + 8]
        if kind == 0:
            plan.append(Copy(place, 8))
        elif kind == 1:
            plan.append(Change(place, 8, (BYTES, FP32, ElementType.INT16)[number % 7 % 3]))
            piece = bytes(byte ^ 1 for byte in piece)
        else:
            plan.append(Fresh(8, (BYTES, ElementType.FP64)[number % 2]))
        made += piece
    files.write(old, bytes(made), plan, encoding="patch")

    assert files.applied() == bytes(made)


@pytest.mark.parametrize("size", [-1, 1])
def test_an_old_file_of_another_size_is_refused_at_once(
    tuned: Files, tmp_path: Path, size: int
) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(tuned.old.stat().st_size + size))

    with pytest.raises(IntegrityError, match="old file"):
        apply.apply_file(other, tuned.delta, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_another_old_file_of_the_same_size_is_to_blame(tuned: Files, tmp_path: Path) -> None:
    other = tmp_path / "other"
    data = bytearray(tuned.old.read_bytes())
    data[1000] ^= 1
    other.write_bytes(data)

    with pytest.raises(IntegrityError, match="old file"):
        apply.apply_file(other, tuned.delta, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


@pytest.mark.parametrize("base", [None, Path("/nowhere/at/all")])
def test_a_missing_old_file_is_named(tuned: Files, tmp_path: Path, base: Path | None) -> None:
    with pytest.raises(InvalidError, match="base"):
        apply.apply_file(base, tuned.delta, tmp_path / "made")


def test_a_receiver_with_less_memory_is_told_before_anything_is_decoded(tuned: Files) -> None:
    limits = Limits(memory_bytes=header_of(tuned.delta).memory_bytes - 1)

    with pytest.raises(InvalidError, match=r"delta\.memory"):
        delta_files.decoded(tuned.delta.read_bytes(), tuned.old, limits)


def test_a_later_format_asks_for_an_upgrade(tuned: Files) -> None:
    later = bytearray(tuned.delta.read_bytes())
    later[4] = 2

    with pytest.raises(InvalidError, match="upgrade"):
        delta_files.decoded(bytes(later), tuned.old)


def unpacking(tuned: Files, store: Path, delta: Path) -> list[str]:
    new = tuned.new
    argv = [sys.executable, "-m", "runtime.bundle.unpack", "--store", str(store)]
    argv += ["--encoding", "tensor-delta", "--file", str(delta), "--base", str(tuned.old)]
    return [*argv, "--size", str(new.stat().st_size), "--sha256", digests.of_file(new)]


def test_a_child_unpacks_a_blob(tuned: Files, tmp_path: Path) -> None:
    argv = unpacking(tuned, tmp_path / "blobs", tuned.delta)

    run = subprocess.run(argv, cwd=ROOT, capture_output=True, timeout=60, check=False)

    assert (run.returncode, run.stderr) == (0, b"")
    BlobStore(tmp_path / "blobs").check(digests.of_file(tuned.new))


def test_a_child_that_cannot_says_why_in_one_line(tuned: Files, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(tuned.delta.read_bytes()[:5000])
    argv = unpacking(tuned, tmp_path / "blobs", cut)

    run = subprocess.run(argv, cwd=ROOT, capture_output=True, timeout=60, check=False)

    assert run.returncode == 1
    assert msgspec.json.decode(run.stderr)["kind"] == "IntegrityError"
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_child_killed_at_any_byte_leaves_nothing_half_written(
    tuned: Files, tmp_path: Path, share: float
) -> None:
    """It waits for bytes that never come, so the kill always hits it in the middle."""
    pipe, delta = tmp_path / "pipe", tuned.delta.read_bytes()
    os.mkfifo(pipe)
    with (
        subprocess.Popen(unpacking(tuned, tmp_path / "blobs", pipe), cwd=ROOT) as child,
        pipe.open("wb", buffering=0) as feed,
    ):
        feeder = threading.Thread(target=feed.write, args=(delta[: int(len(delta) * share)],))
        feeder.start()
        feeder.join(30)
        child.send_signal(signal.SIGKILL)
        child.wait()
    store = BlobStore(tmp_path / "blobs")
    store.sweep()

    assert [path for path in store.root.rglob("*") if path.is_file()] == []
    encodings.decode(
        "tensor-delta", tuned.delta, store, base=tuned.old,
        size=tuned.new.stat().st_size, sha256=digests.of_file(tuned.new),
    )  # fmt: skip
    store.check(digests.of_file(tuned.new))


def test_a_power_cut_while_decoding_leaves_the_whole_blob_or_none(
    tuned: Files, tmp_path: Path
) -> None:
    wanted, size = digests.of_file(tuned.new), tuned.new.stat().st_size

    def decode(place: Path) -> BlobStore:
        store = BlobStore(place)
        encodings.decode("tensor-delta", tuned.delta, store, base=tuned.old, size=size,
                         sha256=wanted)  # fmt: skip
        return store

    with powercuts.after(None) as counted:
        decode(tmp_path / "counted").check(wanted)
    for steps in range(counted.seen):
        place = tmp_path / f"cut-{steps}"
        with powercuts.after(steps):
            decode(place)
        store = BlobStore(place)
        store.sweep()
        found = [path.read_bytes() for path in store.root.rglob("*") if path.is_file()]
        assert found in ([], [tuned.new.read_bytes()])
        decode(place).check(wanted)


def test_a_power_cut_while_writing_leaves_a_whole_delta_or_none(
    tuned: Files, tmp_path: Path
) -> None:
    def written(target: Path) -> None:
        plan = [Fresh(tuned.new.stat().st_size)]
        write.write(plan, tuned.new, target, encoding="planes")

    with powercuts.after(None) as counted:
        written(tmp_path / "whole")
    for steps in range(counted.seen):
        target = tmp_path / f"cut-{steps}"
        with powercuts.after(steps):
            written(target)
        found = [target.read_bytes()] if target.exists() else []
        assert found in ([], [(tmp_path / "whole").read_bytes()])


def test_what_version_1_wrote_is_read_for_ever() -> None:
    """Every mode, every element type; the files must never be made again."""
    old, new = GOLDEN / "delta_v1.old", GOLDEN / "delta_v1.new"

    for name in ("tensor", "patch", "planes"):
        delta = GOLDEN / f"delta_v1_{name}.bin"
        assert delta_files.decoded(delta.read_bytes(), old) == new.read_bytes()


MEASURE = """
import sys
from pathlib import Path
from runtime.bundle.delta import apply

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

before = peak()
apply.apply_file(*map(Path, sys.argv[1:]))
print(peak() - before)
"""
STRUCTURED = b"".join(f"{number * number % 9973} weights, ".encode() for number in range(700_000))


@pytest.mark.parametrize(
    ("old", "new", "plan"),
    [
        (*delta_files.fine_tuned(FP32, 5_000_000), [Change(0, 20_000_000, FP32)]),
        (STRUCTURED, STRUCTURED[9:] + b"the end.", [Fresh(len(STRUCTURED) - 1)]),
        (STRUCTURED, bytes(len(STRUCTURED)), [Change(0, len(STRUCTURED), BYTES)]),
    ],
    ids=["weights", "prefix", "bytes"],
)
def test_decoding_keeps_within_the_memory_that_its_header_states(
    files: Files, old: bytes, new: bytes, plan: list[Segment]
) -> None:
    files.write(old, new, plan, encoding="patch")
    argv = [sys.executable, "-c", MEASURE, str(files.old), str(files.delta), str(files.made)]

    run = subprocess.run(argv, cwd=ROOT, capture_output=True, timeout=100, check=True)

    assert int(run.stdout) <= header_of(files.delta).memory_bytes <= 60 << 20
    assert files.made.read_bytes() == new


def test_a_device_of_little_memory_gets_a_delta_that_it_can_decode(files: Files) -> None:
    """A little larger: shorter blocks, and less of the old file to look back into."""
    new = STRUCTURED[: 4 << 20]
    roomy = files.write(STRUCTURED, new[9:], [Fresh(len(new) - 9)], encoding="patch")
    size = files.delta.stat().st_size

    tight = write.write(
        [Fresh(len(new) - 9)], files.new, files.delta, encoding="patch", old=files.old,
        memory_bytes=roomy.memory_bytes // 2,
    )  # fmt: skip

    assert tight.memory_bytes <= roomy.memory_bytes // 2
    assert size <= files.delta.stat().st_size <= size * 2 + 4096
    assert files.applied() == new[9:]
