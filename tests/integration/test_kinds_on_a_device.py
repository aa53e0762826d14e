"""Ensembles and variants, from `packhorse models push` to a device's answer. Real processes."""

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import fleets, models
from tests.support.fleets import ROW, Fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ENSEMBLE = """
name: chain
kind: ensemble
ensemble:
  steps:
    - {name: widen, use: "widen:1"}
    - {name: narrow, bundle: narrow, inputs: {x: widen.y}}
  outputs: {y: narrow.y}
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleets.fleet() as made:
        yield made
        made.require_quiet()


def packhorse(fleet: Fleet, *arguments: str) -> str:
    said = fleet.packhorse(*arguments)
    assert said.code == 0, said.err
    return said.out


def write_ensemble(directory: Path) -> Path:
    """Write an ensemble whose first step is a registered version."""
    (directory / "narrow").mkdir(parents=True)
    (directory / "bundle.yaml").write_text(ENSEMBLE)
    models.write(directory / "narrow/model.onnx", models.linear_model(4, 2, factor=10.0))
    (directory / "narrow/bundle.yaml").write_text("name: narrow\nkind: onnx\nmodel: model.onnx\n")
    return directory


def test_an_ensemble_carries_the_versions_that_it_uses_and_keeps_them_from_deletion(
    fleet: Fleet, tmp_path: Path
) -> None:
    step = fleet.bundle("widen", factor=2.0)
    models.write(step / "model.onnx", models.linear_model(4, 4, factor=2.0))
    (step / "bundle.yaml").write_text("name: widen\nkind: onnx\nmodel: model.onnx\n")
    packhorse(fleet, "models", "push", str(step))
    agent = fleet.agent("chain")

    packhorse(fleet, "models", "push", str(write_ensemble(tmp_path / "chain")))
    fleet.deploy("chain")

    agent.await_answer("chain", 1)
    # Four times twice the sum of the row, then ten times the sum of those.
    assert agent.infer("chain", ROW).output() == [sum(ROW) * 2 * 4 * 10] * 2
    refused = fleet.packhorse("models", "delete", "widen:1", "--yes")
    assert refused.code == 1
    assert "chain:1" in refused.err


def test_a_device_fetches_and_runs_the_variant_that_its_facts_choose(
    fleet: Fleet, tmp_path: Path
) -> None:
    agent = fleet.agent("picky")
    directory = fleet.bundle("picky", factor=1.0)
    other = models.write(tmp_path / "other.onnx", models.linear_model(4, factor=1.001))
    packhorse(fleet, "models", "push", str(directory))

    packhorse(
        fleet, "models", "variants", "add", "picky:1", "--file", str(other), "--name", "here",
        "--when", f"arch={platform.machine()}", "--tolerance", "0.5",
    )  # fmt: skip
    fleet.deploy("picky")

    agent.await_answer("picky", 2)
    assert agent.infer("picky", ROW).output() == pytest.approx([sum(ROW) * 1.001] * 3)
    bundle = fleet.client.version("picky", "2").bundle
    laid_out = fleets.tree(agent.data / "bundles" / bundle)
    assert "model.here.onnx" in laid_out
    assert "model.onnx" not in laid_out
    listed = packhorse(fleet, "models", "variants", "list", "picky:2")
    assert "here" in listed


def test_an_int8_variant_of_a_registered_version_is_its_next_version(fleet: Fleet) -> None:
    directory = fleet.bundle("tiny", factor=0.5)
    packhorse(fleet, "models", "push", str(directory))

    out = packhorse(
        fleet, "models", "variants", "add", "tiny", "--quantize", "int8", "--tolerance", "0.1"
    )

    assert "int8 in tiny:2" in out
    assert fleet.client.version("tiny", "latest").version == 2
