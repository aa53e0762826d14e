"""`packhorse models profile`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud import profiles
from runtime.bundle import source
from runtime.bundle.index import Batching, Resources
from runtime.errors import InvalidError
from runtime.inference.advice import Advice
from tests.support import bundles, registries
from tests.support.command_line import Run
from tests.support.registries import Registry

ADVICE = Advice(2, 160, Batching(max_size=8), ("because",))
WRITTEN = "resources: {memory_mb: 160, cpu: 2}"
HEAD = "# mine\nname: m\nkind: onnx  # what else\nmodel: m.onnx\n"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.running(tmp_path / "data") as running:
        yield running


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (HEAD, f"{HEAD}{WRITTEN}\nbatching: {{max_size: 8}}\n"),
        (HEAD[:-1], f"{HEAD}{WRITTEN}\nbatching: {{max_size: 8}}\n"),
        (
            HEAD + "resources:\n  cpu: 1\n  # two at least\n\n# tags follow\ntags: {a: b}\n",
            HEAD
            + f"{WRITTEN}\n  # two at least\n\n# tags follow\ntags: {{a: b}}\n"
            + "batching: {max_size: 8}\n",
        ),
        (
            HEAD + "batching: {max_size: 2, max_delay_ms: 3}  # try\nresources: {timeout_s: 9}\n",
            HEAD
            + "batching: {max_size: 8, max_delay_ms: 3.0}  # try\n"
            + "resources: {memory_mb: 160, cpu: 2, timeout_s: 9.0}\n",
        ),
    ],
)
def test_every_other_line_of_the_bundle_stays(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "bundle.yaml"
    path.write_text(before)

    profiles.write(tmp_path, ADVICE)

    assert path.read_text() == after
    assert source.read_source(tmp_path).batching is not None


def test_a_bundle_that_is_not_valid_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "bundle.yaml"
    path.write_text("name: m\nkind: other\n")

    with pytest.raises(InvalidError, match="kind"):
        profiles.write(tmp_path, ADVICE)
    assert path.read_text() == "name: m\nkind: other\n"


def test_a_directory_is_profiled_and_written_to(tmp_path: Path, run: Run) -> None:
    bundles.write(tmp_path / "bundle")
    few = ("--seconds", "0.05", "--threads", "1", "--callers", "1", "--batches", "1")

    ran = run("models", "profile", tmp_path / "bundle", *few, "--write")

    assert ran.code == 0, ran.err
    assert "rows/s" in ran.out
    advised = source.read_source(tmp_path / "bundle").resources
    assert f"resources: {{memory_mb: {advised.memory_mb}, cpu: 1}}" in ran.out
    assert advised == Resources(memory_mb=advised.memory_mb, cpu=1.0)


def test_a_registered_version_is_pulled_and_profiled(tmp_path: Path, run: Run) -> None:
    run("models", "push", bundles.write(tmp_path / "bundle", name="scale"))

    found = run(
        "models", "profile", "scale:1", "--seconds", "0.05", "--threads", "1", "--callers", "1",
        "--batches", "4", "--json",
    ).json()  # fmt: skip

    assert [each["rows"] for each in found["measured"]] == [4]
    assert found["advice"]["cpu"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["scale:1", "--write"], "only a bundle's directory can be written to"),
        (["nowhere/model.onnx"], "there is no such file or directory"),
        (["{bundle}", "--threads", "0"], "give 1 to 1024"),
    ],
)
def test_bad_input_is_told_in_one_line(
    tmp_path: Path, run: Run, arguments: list[str], says: str
) -> None:
    bundle = bundles.write(tmp_path / "bundle")

    ran = run("models", "profile", *(each.format(bundle=bundle) for each in arguments))

    assert ran.code == 2
    assert says in ran.err
    assert "Traceback" not in ran.err
