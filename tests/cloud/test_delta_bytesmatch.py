import random

import numpy as np
import pytest

from runtime.bundle.delta import bytesmatch, longest, planner
from runtime.bundle.delta.plan import Change, Copy, Fresh, Segment
from tests.support import delta_graphs

WORDS = [bytes(random.Random(n).choices(b"abcdefghij", k=6)) for n in range(400)]


def text(seed: int, size: int) -> bytes:
    return b" ".join(random.Random(seed).choices(WORDS, k=size // 7))


def plan(old: bytes, new: bytes) -> list[Segment]:
    made = planner.byte_plan(delta_graphs.as_bytes(old), delta_graphs.as_bytes(new))
    assert delta_graphs.followed(made, old, new) == new
    return made


def fresh_bytes(segments: list[Segment]) -> int:
    return sum(segment.length for segment in segments if isinstance(segment, Fresh))


@pytest.fixture(params=["suffixes", "hashes"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of finding matches: with a suffix array, and without the package that makes it."""
    if request.param == "suffixes":
        pytest.importorskip("pydivsufsort", reason="it comes with the [cloud] extra")
    else:
        monkeypatch.setattr(longest, "pydivsufsort", None)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_text_put_in_and_taken_out_is_all_that_is_new() -> None:
    old, other = text(1, 50_000), text(2, 600)
    new = old[:10_000] + other[:300] + old[10_000:30_000] + old[31_000:] + other[300:]

    assert fresh_bytes(plan(old, new)) < 700


@pytest.mark.usefixtures("way")
def test_blocks_in_another_order_are_copied() -> None:
    blocks = [text(seed, 3000) for seed in range(10)]

    made = plan(b"".join(blocks), b"".join(blocks[n] for n in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)))

    assert fresh_bytes(made) < 100


@pytest.mark.usefixtures("way")
def test_bytes_that_change_here_and_there_stay_one_stretch() -> None:
    """As in machine code that moved: every address in it differs by the same."""
    old = random.Random(1).randbytes(40_000)
    new = bytearray(b"moved" + old)
    for place in range(100, len(new), 37):
        new[place] = (new[place] + 5) % 256

    made = plan(old, bytes(new))

    assert [type(segment) for segment in made] == [Fresh, Change]


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"", b"new"), (b"old", b""), (b"a", b"a"), (b"ab" * 5000, b"ba" * 5000), (b"\0" * 9, b"\0")],
)
@pytest.mark.usefixtures("way")
def test_every_new_byte_is_in_the_plan(old: bytes, new: bytes) -> None:
    plan(old, new)


@pytest.mark.usefixtures("way")
def test_what_is_called_a_match_is_one() -> None:
    rng = random.Random(8)
    for _ in range(60):
        old, new = (bytes(rng.choices(b"ab", k=rng.randrange(1, 90))) for _ in range(2))
        found = longest.longest(delta_graphs.as_bytes(old), delta_graphs.as_bytes(new))

        for at, (length, place) in enumerate(zip(found.length, found.place, strict=True)):
            assert old[place : place + length] == new[at : at + length]
            assert place + length <= len(old)


def test_suffixes_find_the_longest_match_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydivsufsort", reason="it comes with the [cloud] extra")
    monkeypatch.setattr(longest, "_SLICE", 64)
    old, new = text(5, 3000) + b"$", text(6, 700) + b"#"

    found = longest.longest(delta_graphs.as_bytes(old), delta_graphs.as_bytes(new))

    ends = [at for at in range(len(new)) if new[at : at + found.length[at] + 1] not in old]
    assert len(ends) == len(new)


def test_files_too_large_for_a_suffix_array_are_matched_in_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (bytesmatch, longest):
        monkeypatch.setattr(module, "SUFFIXES_BYTES", 60_000)
    monkeypatch.setattr(bytesmatch, "WINDOW_BYTES", 20_000)
    monkeypatch.setattr(bytesmatch, "_REGION_BYTES", 30_000)
    monkeypatch.setattr(longest, "_INDEXED", 20_000)
    old = text(1, 90_000)
    new = old[60_000:] + text(9, 500) + old[:60_000]

    made = plan(old, new)

    assert fresh_bytes(made) < 800
    assert sum(segment.length for segment in made if isinstance(segment, Copy)) > 80_000


def test_seeds_hang_on_their_sixteen_bytes_alone() -> None:
    data = delta_graphs.as_bytes(text(1, 500))
    moved = np.concatenate([delta_graphs.as_bytes(b"xyz"), data])

    assert (longest.seeds(moved)[3:] == longest.seeds(data)).all()
