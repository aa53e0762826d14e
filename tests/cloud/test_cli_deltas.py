import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from cloud.cli import main
from tests.support import delta_graphs, filesystems
from tests.support.command_line import Ran

Run = Callable[..., Ran]
BUILDING = ["auto", "patch", "tensor"]
WHOLE = ["zstd", "planes"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`packhorse delta` in this process, without a registry."""

    def packhorse(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["packhorse", "delta", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.main()
        out, err = capsys.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    return packhorse


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a network, `old`, and the same network trained on, `new`."""
    weights = delta_graphs.weights()
    (tmp_path / "old").write_bytes(delta_graphs.onnx_file(weights))
    (tmp_path / "new").write_bytes(delta_graphs.onnx_file(delta_graphs.tuned(weights)))
    return tmp_path


def make(run: Run, place: Path, encoding: str = "auto") -> Path:
    """Make a delta of the two files of a place; return it."""
    made = run("make", place / "old", place / "new", "-o", place / "d", "--encoding", encoding)
    assert made.code == 0, made.err
    return place / "d"


def names(place: Path) -> set[str]:
    return {each.name for each in place.iterdir()}


@pytest.mark.parametrize("encoding", BUILDING + WHOLE)
def test_what_a_delta_makes_of_the_old_file_is_the_new_one(
    run: Run, place: Path, encoding: str
) -> None:
    delta = make(run, place, encoding)
    applied = run("apply", place / "old", delta, "-o", place / "made")

    assert applied.code == 0, applied.err
    assert (place / "made").read_bytes() == (place / "new").read_bytes()
    assert names(place) == {"old", "new", "d", "made"}


@pytest.mark.parametrize("encoding", WHOLE)
def test_what_is_whole_needs_no_old_file_and_says_so(run: Run, place: Path, encoding: str) -> None:
    made = run("make", place / "no-such", place / "new", "-o", place / "d", "--encoding", encoding)
    applied = run("apply", place / "no-such", place / "d", "-o", place / "made")

    assert "needs no old file" in made.err
    assert "OLD is not looked at" in applied.err
    assert (place / "made").read_bytes() == (place / "new").read_bytes()
    assert run("show", place / "d", "--json").json()["old"] is None


def test_sizes_and_the_saving_are_told_to_people_and_scripts(run: Run, place: Path) -> None:
    told = run("make", place / "old", place / "new", "-o", place / "d").out
    plain = run("make", place / "old", place / "new", "-o", place / "e", "--json").json()
    sizes = {name: (place / name).stat().st_size for name in ("old", "new", "e")}

    assert "% saved" in told
    assert plain["encoding"] == "tensor-delta"
    assert plain["file_bytes"] == sizes["e"] < 0.7 * sizes["new"]
    assert plain["saved_bytes"] == sizes["new"] - sizes["e"]
    assert (plain["old"]["size_bytes"], plain["new"]["size_bytes"]) == (sizes["old"], sizes["new"])
    applied = run("apply", place / "old", place / "e", "-o", place / "made", "--json").json()
    assert {**applied, "file": ""} == {**plain, "file": ""}


@pytest.mark.parametrize(
    ("encoding", "name", "parts"),
    [
        ("tensor", "tensor-delta", {"change fp32", "copy"}),
        ("planes", "planes", {"fresh fp32", "fresh bytes"}),
        ("zstd", "zstd", set()),
    ],
)
def test_every_kind_of_file_is_shown(
    run: Run, place: Path, encoding: str, name: str, parts: set[str]
) -> None:
    delta = make(run, place, encoding)
    shown = run("show", delta, "--json").json()
    coded = sum(share["delta_bytes"] for share in shown["shares"])

    assert shown["encoding"] == name
    assert name in run("show", delta).out
    assert {share["what"] for share in shown["shares"]} >= parts
    assert shown["new"]["size_bytes"] == (place / "new").stat().st_size
    assert not parts or coded + shown["overhead_bytes"] == shown["file_bytes"]


def test_a_frame_that_zstd_itself_wrote_is_unfolded(run: Run, place: Path) -> None:
    (place / "frame").write_bytes(zstandard.compress(b"words " * 1000))
    applied = run("apply", place / "old", place / "frame", "-o", place / "made")

    assert applied.code == 0, applied.err
    assert (place / "made").read_bytes() == b"words " * 1000


def test_an_old_file_that_is_another_is_named(run: Run, place: Path) -> None:
    delta = make(run, place)
    content = bytearray((place / "old").read_bytes())
    (place / "longer").write_bytes(bytes(content) + b"1")
    content[-1] ^= 1
    content[len(content) // 2] ^= 255
    (place / "other").write_bytes(content)

    for name in ("longer", "other"):
        applied = run("apply", place / name, delta, "-o", place / "made")
        assert applied.code == main.BAD_INPUT
        assert "made from another file" in applied.err
        assert name in applied.err
    assert names(place) == {"old", "new", "d", "longer", "other"}


@pytest.mark.parametrize("encoding", ["tensor", "planes", "zstd"])
def test_a_damaged_file_leaves_nothing(run: Run, place: Path, encoding: str) -> None:
    content = make(run, place, encoding).read_bytes()
    middle = len(content) // 2
    wrong = (
        content[:-1],
        content[:middle],
        content + b"1",
        content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
    )

    for damaged in wrong:
        (place / "d").write_bytes(damaged)
        applied = run("apply", place / "old", place / "d", "-o", place / "made")
        assert applied.code == main.FAILED, applied.err
        assert len(applied.err.splitlines()) <= 2
    assert names(place) == {"old", "new", "d"}


@pytest.mark.parametrize("content", [b"", b"PH", b"{}", b"PK\x03\x04" * 100])
def test_what_is_no_delta_is_called_so(run: Run, place: Path, content: bytes) -> None:
    (place / "d").write_bytes(content)

    for ran in (
        run("show", place / "d"),
        run("apply", place / "old", place / "d", "-o", place / "made"),
    ):
        assert ran.code == main.BAD_INPUT
        assert "neither a delta file nor a zstd frame" in ran.err


def test_a_zstd_frame_without_its_size_is_refused(run: Run, place: Path) -> None:
    compressor, written = zstandard.ZstdCompressor(), io.BytesIO()
    compressor.copy_stream(io.BytesIO(b"words " * 1000), written)
    (place / "d").write_bytes(written.getvalue())

    assert "zstd -d" in run("show", place / "d").err


def test_an_output_that_is_there_is_replaced_only_if_told(run: Run, place: Path) -> None:
    delta = make(run, place)
    old = (place / "old").read_bytes()
    refused = run("apply", place / "old", delta, "-o", place / "old")
    kept = (place / "old").read_bytes() == old
    forced = run("apply", place / "old", delta, "-o", place / "old", "--force")

    assert (refused.code, kept) == (main.BAD_INPUT, True)
    assert "--force" in refused.err
    assert forced.code == 0, forced.err
    assert (place / "old").read_bytes() == (place / "new").read_bytes()


def test_no_output_takes_the_place_of_what_it_is_made_of(run: Run, place: Path) -> None:
    delta = make(run, place)
    before = {name: (place / name).read_bytes() for name in names(place)}
    ran = [
        run("make", place / "old", place / "new", "-o", place / "old", "--force"),
        run("make", place / "old", place / "new", "-o", place / "new", "--force"),
        run("apply", place / "old", delta, "-o", delta, "--force"),
        run("make", place / "old", place / "new", "-o", place, "--force"),
        run("make", place / "old", place / "new", "-o", place / "none" / "d"),
    ]

    assert [each.code for each in ran] == [main.BAD_INPUT] * len(ran)
    assert {name: (place / name).read_bytes() for name in names(place)} == before


@pytest.mark.parametrize("missing", ["OLD", "NEW"])
def test_a_file_that_is_not_there_is_named(run: Run, place: Path, missing: str) -> None:
    (place / missing.lower()).unlink()
    ran = run("make", place / "old", place / "new", "-o", place / "d")

    assert ran.code == main.BAD_INPUT
    assert ran.err.startswith(f"packhorse: {missing}:")


def test_a_full_disk_leaves_nothing_half_written(run: Run, place: Path) -> None:
    (place / "old").write_bytes(b"0" * 3_000_000)
    (place / "new").write_bytes(b"1" + b"0" * 3_000_000)
    delta = make(run, place)

    with filesystems.of_size(megabytes=1) as small:
        applied = run("apply", place / "old", delta, "-o", small / "made")
        left = names(small)

    assert applied.code == main.FAILED
    assert "make room" in applied.err
    assert left == set()
