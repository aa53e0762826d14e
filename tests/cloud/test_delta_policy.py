from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.deltas import policy
from cloud.deltas.policy import File, Kept, Listing, Movement, Option, Pair
from runtime.bundle import encodings
from runtime.digests import Digest

SIZE = 1_000_000
EVERY = encodings.KNOWN
NEEDED = 5_000_000
"""Memory that decoding a delta takes."""


def digest(text: str) -> Digest:
    return Digest(text.encode().hex().ljust(64, "0"))


def listing(name: str, *files: tuple[str, int], model: str = "digits") -> Listing:
    """Return a bundle whose blobs are named after it; "model.onnx" is its model."""
    made = (File(path, digest(f"{name}{path}"), size, path == "model.onnx") for path, size in files)
    return Listing(digest(name), model, tuple(made))


V1 = listing("1", ("model.onnx", SIZE), ("words.txt", SIZE))
V2 = listing("2", ("model.onnx", SIZE), ("words.txt", SIZE + 5))
V3 = listing("3", ("model.onnx", SIZE), ("words.txt", SIZE))


def bases(blob: str, *held: Listing, wanted: Listing = V3) -> list[Digest]:
    return policy.bases(wanted, digest(blob), held)


def test_the_same_path_of_the_same_model_is_the_likeliest_base() -> None:
    other = listing("x", ("model.onnx", SIZE), model="other")

    assert bases("3model.onnx", other, V2) == [
        digest("2model.onnx"),
        digest("xmodel.onnx"),
        digest("2words.txt"),
    ]


def test_a_model_under_another_path_comes_before_what_is_no_model() -> None:
    moved = Listing(digest("m"), "digits", (
        File("old.txt", digest("text"), SIZE, is_model=False),
        File("net.onnx", digest("net"), 3 * SIZE, is_model=True),
    ))  # fmt: skip

    assert bases("3model.onnx", moved) == [digest("net"), digest("text")]


def test_of_equals_the_nearest_size_comes_first_and_then_the_newest() -> None:
    assert bases("3words.txt", V2, V1)[:2] == [digest("1words.txt"), digest("2words.txt")]
    assert bases("3model.onnx", V2, V1)[:2] == [digest("2model.onnx"), digest("1model.onnx")]
    assert bases("3model.onnx", V1, V2)[:2] == [digest("1model.onnx"), digest("2model.onnx")]


def test_small_files_and_strangers_have_no_base() -> None:
    small = listing("s", ("model.onnx", policy.LEAST_BYTES - 1))

    assert bases("3model.onnx", small) == []
    assert bases("smodel.onnx", V1, wanted=small) == []
    assert bases("nobody", V1) == []
    assert bases("3model.onnx", V3) == [digest("3words.txt")]


def test_only_a_few_bases_are_looked_at() -> None:
    held = [listing(f"b{number}", ("model.onnx", SIZE)) for number in range(20)]

    assert len(bases("3model.onnx", *held)) == policy.MOST_BASES


def test_what_most_devices_wait_for_comes_first() -> None:
    movements = [
        Movement(V1, V3, devices=1000, wanted=False),
        Movement(V1, V2, devices=3, wanted=True),
        Movement(V2, V3, devices=7, wanted=True),
    ]

    pairs = policy.pairs(movements, {})

    assert pairs == [
        Pair(digest("3model.onnx"), digest("2model.onnx")),
        Pair(digest("3words.txt"), digest("2words.txt")),
        Pair(digest("2model.onnx"), digest("1model.onnx")),
        Pair(digest("2words.txt"), digest("1words.txt")),
        Pair(digest("3model.onnx"), digest("1model.onnx")),
        Pair(digest("3words.txt"), digest("1words.txt")),
    ]


def test_a_wish_counts_like_a_device_that_waits() -> None:
    wish = Pair(digest("3model.onnx"), digest("1model.onnx"))
    movements = [Movement(V2, V3, devices=2, wanted=True)]

    assert policy.pairs(movements, {wish: 3})[0] == wish
    assert policy.pairs(movements, {wish: 1})[-1] == wish


def test_blobs_that_both_have_need_no_delta() -> None:
    same = Listing(digest("same"), "digits", V1.files)

    assert policy.pairs([Movement(V1, same, devices=1, wanted=True)], {}) == []


def option(encoding: str, encoded_size: int) -> Option:
    base = digest("base") if encoding in encodings.BUILDING else None
    memory = 0 if encoding == encodings.ZSTD else NEEDED
    return Option(encoding, base, encoded_size, memory)


@pytest.mark.parametrize(
    ("known", "memory", "chosen"),
    [
        (EVERY, 1 << 40, encodings.TENSOR_DELTA),
        ((encodings.ZSTD, encodings.PLANES), 1 << 40, encodings.PLANES),
        ((encodings.ZSTD,), 1 << 40, encodings.ZSTD),
        (EVERY, None, encodings.ZSTD),
        (EVERY, 0, encodings.ZSTD),
        (EVERY, NEEDED, encodings.TENSOR_DELTA),
        (EVERY, NEEDED - 1, encodings.ZSTD),
    ],
)
def test_the_smallest_that_the_device_can_decode_is_chosen(
    known: Sequence[str], memory: int | None, chosen: str
) -> None:
    options = [
        option(encodings.ZSTD, 900),
        option(encodings.PLANES, 800),
        option(encodings.PATCH, 500),
        option(encodings.TENSOR_DELTA, 400),
    ]

    best = policy.choose(options, known=known, memory=memory)

    assert best is not None
    assert best.encoding == chosen


def test_of_equals_the_whole_is_chosen() -> None:
    options = [option(encodings.PATCH, 900), option(encodings.ZSTD, 900)]

    best = policy.choose(options, known=EVERY, memory=1 << 40)

    assert best == option(encodings.ZSTD, 900)


def kept(
    name: str, size: int, *, used_at: float = 0.0, made_at: float = 0.0, delta: bool = True
) -> Kept:
    encoding = encodings.PATCH if delta else encodings.ZSTD
    base = digest("base") if delta else None
    return Kept(encoding, digest(name), base, size, made_at, used_at)


def evicted(*stored: Kept, cap: int, protected: str = "", busy_since: float = 1e9) -> list[Kept]:
    return policy.evictions(
        stored, cap_bytes=cap, protected={digest(protected)}, busy_since=busy_since
    )


def test_deltas_go_first_and_the_longest_unused_before_others() -> None:
    old, new = kept("old", 10, used_at=1), kept("new", 10, used_at=2)
    whole = kept("whole", 10, used_at=0, delta=False)

    assert evicted(new, whole, old, cap=30) == []
    assert evicted(new, whole, old, cap=29) == [old]
    assert evicted(new, whole, old, cap=10) == [old, new]
    assert evicted(new, whole, old, cap=0) == [old, new, whole]


def test_whole_encodings_of_what_is_deployed_never_go() -> None:
    whole, delta = kept("deployed", 10, delta=False), kept("deployed", 10)

    assert evicted(whole, delta, cap=0, protected="deployed") == [delta]


def test_what_a_device_may_be_fetching_stays() -> None:
    offered = kept("offered", 10, made_at=50, used_at=100)
    made = kept("made", 10, made_at=100, used_at=100)

    assert evicted(offered, made, cap=0, busy_since=90) == [made]
    assert evicted(offered, made, cap=0, busy_since=101) == [made, offered]


STORED = st.lists(
    st.builds(
        kept,
        st.integers(0, 5).map(str),
        st.integers(1, 100),
        used_at=st.integers(0, 9).map(float),
        delta=st.booleans(),
    )
)


@given(stored=STORED, cap=st.integers(0, 500), protected=st.integers(0, 5).map(str))
def test_no_more_goes_than_must_and_the_rest_fits_unless_it_is_protected(
    stored: list[Kept], cap: int, protected: str
) -> None:
    going = evicted(*stored, cap=cap, protected=protected)

    left = sum(one.size_bytes for one in stored) - sum(one.size_bytes for one in going)
    stays = [one for one in stored if one.base is None and one.blob == digest(protected)]
    assert all(one not in stays for one in going)
    assert left <= cap or left == sum(one.size_bytes for one in stays)
    assert going == [] or left + going[-1].size_bytes > cap


@given(
    devices=st.lists(st.integers(1, 1000), min_size=1, max_size=4),
    wanted=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_every_pair_is_named_once_and_builds_on_another_blob(
    devices: list[int], wanted: list[bool]
) -> None:
    movements = [
        Movement(source, V3, count, is_wanted)
        for source, count, is_wanted in zip((V1, V2, V1, V2), devices, wanted, strict=False)
    ]

    pairs = policy.pairs(movements, {})

    assert len(pairs) == len(set(pairs))
    assert all(pair.blob != pair.base for pair in pairs)
    assert {pair.blob for pair in pairs} == {file.blob for file in V3.files}
