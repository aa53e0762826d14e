"""Deltas that no writer of ours makes: refused, soon, and without much memory."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from runtime import digests
from runtime.bundle import encodings
from runtime.bundle.blobs import BlobStore
from runtime.bundle.delta import apply, blocks, streams, table
from runtime.bundle.delta.apply import Limits
from runtime.bundle.delta.format import Base, Cursor, varint, zigzag
from runtime.bundle.delta.plan import Change, Copy, ElementType, Fresh, Segment
from runtime.errors import IntegrityError, InvalidError
from tests.support import delta_files
from tests.support.delta_files import Files, Forgery

ROOT = Path(__file__).parents[2]
BYTES, INT8, INT32, FP32 = (
    ElementType.BYTES, ElementType.INT8, ElementType.INT32, ElementType.FP32,
)  # fmt: skip
OLD = bytes(range(256)) * 8
BASE = Base(len(OLD), digests.of_bytes(OLD))
MIB = 1 << 20


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old"
    path.write_bytes(OLD)
    return path


def one(count: int, body: bytes, kind: ElementType = BYTES, *, change: bool = False) -> Forgery:
    """A delta of one segment and one block."""
    length = count * kind.width
    segment: Segment = Change(0, length, kind) if change else Fresh(length, kind)
    return Forgery(length, [segment], [(count, body)], BASE)


def zstd_frame(size: int, *, says: bool = True, window_log: int = 20) -> bytes:
    """Zeros of this size in a frame."""
    parameters = zstandard.ZstdCompressionParameters(
        format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=says, window_log=window_log
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(size))


def zstd(size: int, *, says: bool = True, window_log: int = 20) -> bytes:
    """The same as a stream."""
    frame = zstd_frame(size, says=says, window_log=window_log)
    return varint(len(frame) << 3 | streams.ZSTD) + frame


def raw(data: bytes) -> bytes:
    return bytes((streams.RAW,)) + data


def moved(segments: list[Segment], size: int) -> Forgery:
    return Forgery(size, segments, [], BASE)


PLAIN, SPLIT, RESIDUAL = (bytes((mode,)) for mode in (blocks.PLAIN, blocks.SPLIT, blocks.RESIDUAL))
DIFFERENCE, PREFIX = (bytes((mode,)) for mode in (blocks.DIFFERENCE, blocks.PREFIX))
NO_KEY = bytes((0, 0))
ONE_GROUP = varint(1) + varint(100) + varint(zigzag(0))
FORGED = {
    "copy beyond the old file": moved([Copy(len(OLD) - 5, 6)], 6),
    "copy from before it": moved([Copy(-1, 6)], 6),
    "copy from beyond all files": moved([Copy(2**61, 6)], 6),
    "copy without an old file": Forgery(6, [Copy(0, 6)]),
    "change beyond the old file": moved([Change(len(OLD) - 4, 8, FP32)], 8),
    "segments longer than the file": moved([Copy(0, 6)], 5),
    "segments whose sum runs over": Forgery(
        2**46, [Copy(0, 2**46 - 1)] * 3 + [Copy(0, 10)], [], Base(2**46, BASE.sha256)
    ),
    "segments shorter than the file": moved([Copy(0, 6)], 7),
    "far too many segments": Forgery(4097 * 4, [Fresh(1)] * (4096 * 3), [], BASE),
    "a block of no elements": Forgery(4, [Fresh(4)], [(0, PLAIN)]),
    "a block beyond its lane": Forgery(4, [Fresh(4)], [(5, PLAIN + raw(b"12345"))]),
    "a block that has bytes left over": one(4, PLAIN + raw(b"1234") + b"x"),
    "a block that is too short": one(4, PLAIN + raw(b"123")),
    "a block of more bytes than it unfolds to": one(4, PLAIN + raw(b"1234") + bytes(200)),
    "a block of no known mode": one(4, bytes((9,)) + raw(b"1234")),
    "a residual without an old file": one(100, RESIDUAL + NO_KEY + ONE_GROUP, FP32),
    "a difference without an old file": one(4, DIFFERENCE + raw(b"1234")),
    "planes of bytes": one(4, SPLIT + b"\0" + raw(b"1234")),
    "residuals of bytes": one(
        100, RESIDUAL + NO_KEY + ONE_GROUP + bytes((2 << 5, streams.CONSTANT, 2)), change=True
    ),
    "a difference of numbers": one(1, DIFFERENCE + raw(b"1234"), FP32, change=True),
    "a prefix of numbers": one(1, PREFIX + varint(0) + varint(4) + zstd_frame(4), FP32),
    "a prefix beyond the old file": one(4, PREFIX + varint(2000) + varint(100) + b"x"),
    "a prefix of nothing": one(4, PREFIX + varint(2000) + varint(0) + b"x"),
    "a prefix at the end of numbers": one(4, PREFIX + varint(2**63 - 1) + varint(2) + b"x"),
    "a frame that says it is larger": one(100, PLAIN + zstd(2**24)),
    "a frame that does not say": one(100, PLAIN + zstd(100, says=False, window_log=27)),
    "a frame of fewer bytes": one(100, PLAIN + zstd(99)),
    "groups of more elements": one(
        100, RESIDUAL + NO_KEY + varint(1) + varint(101) + b"\0", INT8, change=True
    ),
    "groups of no elements": one(
        100, RESIDUAL + NO_KEY + varint(9) + (varint(0) + b"\0") * 9, INT8, change=True
    ),
    "groups without end": one(
        100, RESIDUAL + NO_KEY + varint(2**62) + varint(100) + b"\0", INT8, change=True
    ),
    "a key of too many bits": one(
        100, RESIDUAL + bytes((0, 200)) + ONE_GROUP, INT8, change=True
    ),
    "a key shifted too far": one(100, RESIDUAL + bytes((8, 4)) + ONE_GROUP, INT8, change=True),
    "a shift beyond the number": one(
        100, RESIDUAL + NO_KEY + ONE_GROUP + bytes((5 | 2 << 5,)), INT8, change=True
    ),
    "excess within excess for ever": one(
        100, RESIDUAL + NO_KEY + ONE_GROUP + bytes((2 << 5, streams.CONSTANT, 255)) * 20,
        INT8, change=True,
    ),
    "gaps beyond the elements": one(
        100, RESIDUAL + NO_KEY + ONE_GROUP + bytes((1 << 5,)) + varint(1) + raw(b"\xc8") + b"\0",
        INT8, change=True,
    ),
    "more gaps than elements": one(
        100, RESIDUAL + NO_KEY + ONE_GROUP + bytes((1 << 5,)) + varint(2**40) + b"\1\0",
        INT8, change=True,
    ),
    "ranks that nobody has": one(
        100, SPLIT + bytes((1, 65, 2 << 5, streams.CONSTANT, 7)) * 4, INT32
    ),
    "more memory than it said": Forgery(
        4 * MIB, [Fresh(4 * MIB)], [(4 * MIB, PLAIN + zstd(4 * MIB))], None, 9 * MIB
    ),
    "a file beyond all files": Forgery(2**46 + 1, [Fresh(4)]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_delta_is_refused(name: str, old: Path) -> None:
    with pytest.raises(IntegrityError):
        delta_files.decoded(FORGED[name].bytes(), old, Limits(memory_bytes=1 << 40))


def test_what_the_forger_makes_is_taken_when_it_is_right(old: Path) -> None:
    """So that the others are refused for what is wrong with them."""
    good = (PLAIN + raw(b"1234"), PLAIN + zstd(4), DIFFERENCE + bytes((streams.CONSTANT, 1)))

    found = [delta_files.decoded(one(4, body, change=True).bytes(), old) for body in good]
    residual = RESIDUAL + NO_KEY + ONE_GROUP + bytes((2 << 5, streams.CONSTANT, 2))
    numbers = delta_files.decoded(one(100, residual, INT8, change=True).bytes(), old)

    assert found == [b"1234", bytes(4), b"\1\2\3\4"]
    assert numbers == OLD[1:101]


def test_bytes_after_the_end_are_refused(old: Path) -> None:
    delta = one(4, PLAIN + raw(b"1234")).bytes()
    assert delta_files.decoded(delta, old) == b"1234"

    with pytest.raises(IntegrityError, match="more"):
        delta_files.decoded(delta + b"\0", old)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A delta of every kind of segment, small enough to damage at every byte."""
    files = Files(tmp_path_factory.mktemp("small"))
    before, after = delta_files.fine_tuned(FP32, 60)
    plan: list[Segment] = [Copy(0, 20), Change(20, 240, FP32), Fresh(30), Change(0, 20, BYTES)]
    text = b"train of thought, " * 2
    files.write(text[:20] + before, text[:20] + after + text[:30] + text[1:21], plan,
                encoding="tensor-delta")  # fmt: skip
    return files


def test_a_delta_that_ends_early_is_refused_wherever_it_ends(small: Files) -> None:
    delta = small.delta.read_bytes()

    for length in range(len(delta)):
        with pytest.raises(IntegrityError):
            delta_files.decoded(delta[:length], small.old)


def outcome(delta: bytes, files: Files) -> str:
    """Return how it ends when a blob store takes what a delta makes."""
    try:
        made = delta_files.decoded(delta, files.old)
    except (IntegrityError, InvalidError):
        return "refused"
    return "right" if made == files.new.read_bytes() else "another digest"


def test_a_delta_with_one_wrong_byte_is_refused_or_does_not_matter(small: Files) -> None:
    """What does not matter: the digests, memory a little above what is needed, and spare bits."""
    delta = small.delta.read_bytes()
    found = []
    for place in range(len(delta)):
        wrong = bytearray(delta)
        wrong[place] ^= 1 << place % 8
        found.append(outcome(bytes(wrong), small))

    digests_bytes = 2 * 32
    assert found.count("right") <= digests_bytes + 10
    assert found.count("refused") >= 50


def test_what_has_another_digest_is_not_stored(old: Path, tmp_path: Path) -> None:
    made = one(4, PLAIN + raw(b"1234"))
    made.sha256 = digests.of_bytes(b"1235")
    delta, store = tmp_path / "delta", BlobStore(tmp_path / "blobs")
    delta.write_bytes(made.bytes())

    with pytest.raises(IntegrityError, match="wanted"):
        encodings.decode("tensor-delta", delta, store, base=old, size=4, sha256=made.sha256)
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
    with pytest.raises(IntegrityError, match="new file"):
        apply.apply_file(old, delta, tmp_path / "made")
    assert not (tmp_path / "made").exists()


BOMB_LIMITS = """
import io, resource, sys, time
from pathlib import Path
from runtime.bundle.delta import apply
from runtime.errors import IntegrityError, InvalidError

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

resource.setrlimit(resource.RLIMIT_DATA, (192 << 20, 192 << 20))
before, started = peak(), time.monotonic()
for path in map(Path, sys.argv[2:]):
    try:
        with path.open("rb") as file, apply.Decoder(file, Path(sys.argv[1])) as decoder:
            while decoder.read(1 << 20):
                pass
    except (IntegrityError, InvalidError):
        continue
    sys.exit(f"{path} was taken")
print(peak() - before, time.monotonic() - started)
"""


def test_forged_deltas_take_little_memory_and_time(old: Path, tmp_path: Path) -> None:
    paths = []
    for number, forgery in enumerate(FORGED.values()):
        paths.append(tmp_path / f"{number}")
        paths[-1].write_bytes(forgery.bytes())
    argv = [sys.executable, "-c", BOMB_LIMITS, str(old), *map(str, paths)]

    run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)

    peak, seconds = run.stdout.split()
    assert int(peak) <= 64 * MIB
    assert float(seconds) <= 10


def test_a_small_delta_never_unfolds_beyond_what_was_promised(tmp_path: Path) -> None:
    """A terabyte of zeros, of which a hundred megabytes would be in this delta."""
    block = (8 * MIB, PLAIN + bytes((streams.CONSTANT, 0)))
    bomb = Forgery(1 << 40, [Fresh(1 << 40)], [block] * 12)
    path = tmp_path / "bomb"
    path.write_bytes(bomb.bytes())
    store = BlobStore(tmp_path / "blobs")

    with pytest.raises(IntegrityError):
        encodings.decode("tensor-delta", path, store, size=100, sha256=bomb.sha256)
    with pytest.raises(IntegrityError, match="the end after"):
        apply.apply(None, path, io.BytesIO())


def test_a_promise_of_all_memory_is_not_believed(old: Path) -> None:
    greedy = one(4, PLAIN + raw(b"1234"))
    greedy.memory_bytes = 1 << 41

    with pytest.raises(InvalidError, match=r"delta\.memory"):
        delta_files.decoded(greedy.bytes(), old)


def test_a_table_of_a_million_segments_is_refused_before_it_is_unfolded() -> None:
    """It says how many it has; nothing is set aside for them."""
    count = 1_000_000
    made = Forgery(1 << 30, [Fresh(1)]).bytes()
    head = made[: made.index(table.encode([Fresh(1)], 0)) - 2]

    with pytest.raises(IntegrityError, match="segments"):
        delta_files.decoded(head + varint(count) + varint(9) + bytes(9))


def test_a_wide_element_does_not_reach_beyond_the_old_file() -> None:
    wide = table.encode([Change(len(OLD) - 8, 8, ElementType.FP64)], 0)
    with pytest.raises(IntegrityError):
        table.decode(Cursor(wide), 1, start=0, size=8, old_size=len(OLD) - 1)
