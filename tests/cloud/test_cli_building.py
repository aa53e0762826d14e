"""What `packhorse models` makes of a path: bundles, bare files, pickles that are refused."""

import dataclasses
import pickle
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from cloud.cli import main
from tests.support import models, registries, scripts
from tests.support.bundle_sources import write_model
from tests.support.command_line import Run
from tests.support.registries import Registry

Packhorse = Callable[..., tuple[int, str, str]]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.running(tmp_path / "data") as running:
        yield running


@pytest.fixture
def packhorse(run: Run) -> Packhorse:
    """Run `packhorse`; return exit code, stdout and stderr."""
    return lambda *arguments: dataclasses.astuple(run(*arguments))


def test_a_bare_onnx_file_is_pushed_with_a_bundle_yaml_that_is_shown(
    packhorse: Packhorse, tmp_path: Path
) -> None:
    write_model(tmp_path / "model.onnx", external="weights.bin")

    code, out, err = packhorse("models", "push", tmp_path / "model.onnx", "--name", "x")

    assert (code, out) == (0, "x:1\n")
    assert "name: x\n    kind: onnx\n    model: model.onnx\n" in err
    assert packhorse("models", "pull", "x", "-o", tmp_path / "pulled")[0] == 0
    assert (tmp_path / "pulled" / "weights.bin").exists()


def test_the_run_of_an_mlflow_model_becomes_its_lineage(
    packhorse: Packhorse, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    models.write(saved / "model.onnx", models.linear_model())
    (saved / "MLmodel").write_text("run_id: abc123\nflavors: {onnx: {data: model.onnx}}\n")

    assert packhorse("models", "push", saved, "--name", "wear")[1] == "wear:1\n"
    assert packhorse("models", "push", saved, "--name", "own", "--run", "mine")[1] == "own:1\n"

    assert '"run": "abc123"' in packhorse("models", "lineage", "wear", "--json")[1]
    assert '"run": "mine"' in packhorse("models", "lineage", "own", "--json")[1]


def test_a_pickle_is_refused_and_told_how_to_allow_it(packhorse: Packhorse, tmp_path: Path) -> None:
    bundle = scripts.write(tmp_path / "bundle")
    (bundle / "weights.dat").write_bytes(pickle.dumps(Fraction(1, 3)))

    code, out, err = packhorse("models", "push", bundle)

    assert (code, out) == (main.BAD_INPUT, "")
    assert "files[weights.dat]: 'pickle' is not accepted" in err
    assert "start the registry with --allow pickle" in err


def test_a_script_is_pushed_checked_and_shown(packhorse: Packhorse, tmp_path: Path) -> None:
    bundle = scripts.write(
        tmp_path / "bundle", yaml=scripts.SIGNATURE + scripts.CHECK + "requirements: r.txt\n"
    )
    (bundle / "r.txt").write_text("numpy>=1\n")

    assert packhorse("models", "check", bundle)[0] == 0
    assert packhorse("models", "push", bundle)[1] == "total:1\n"
    shown = packhorse("models", "show", "total")[1]
    for line in ("kind +python", "needs +entry-script", "requirements +numpy>=1"):
        assert re.search(f"^{line} *$", shown, re.MULTILINE)


def test_what_init_keeps_is_a_bundle_like_any(packhorse: Packhorse, tmp_path: Path) -> None:
    models.write(tmp_path / "Wear.onnx", models.linear_model())

    code, out, _ = packhorse("models", "init", tmp_path / "Wear.onnx", "-o", tmp_path / "wear")

    assert (code, out) == (0, f"wear in {tmp_path / 'wear'}\n")
    assert packhorse("models", "push", tmp_path / "wear")[1] == "wear:1\n"
    again = packhorse("models", "init", tmp_path / "Wear.onnx", "-o", tmp_path / "wear")
    assert again[0] == main.BAD_INPUT
    assert "name a directory that is not there yet" in again[2]
    assert packhorse("models", "init", tmp_path / "wear", "-o", tmp_path / "w")[0] == main.BAD_INPUT


@pytest.mark.parametrize("name", ["gone.onnx", "wear.pkl", "wear.onnx"])
def test_what_is_no_model_is_one_clear_message_and_leaves_nothing(
    packhorse: Packhorse, tmp_path: Path, name: str
) -> None:
    for wrong in ("wear.pkl", "wear.onnx"):
        (tmp_path / wrong).write_bytes(b"x")
    path = tmp_path / name

    for command in (["push"], ["check"], ["init", "-o", str(tmp_path / "out")]):
        code, out, err = packhorse("models", command[0], path, *command[1:])
        assert (code, out) == (main.BAD_INPUT, "")
        assert err.startswith("packhorse: ")
        assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_an_unknown_permission_is_refused(packhorse: Packhorse, tmp_path: Path) -> None:
    code, _, err = packhorse("models", "push", tmp_path, "--allow", "pickles")

    assert code == main.BAD_INPUT
    assert "use entry-script, pickle, nothing" in err
