import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cloud.cli import main
from cloud.deltas import differ, sizes
from cloud.deltas.maker import Maker
from cloud.registry import models
from cloud.storage.encodings import Recipe
from runtime import digests
from runtime.bundle import encodings
from tests.support import deltas, registries, registry_rows
from tests.support.command_line import Run
from tests.support.registries import Registry, Stores

YAML = "name: net\nkind: onnx\nmodel: model.onnx\n"
VARIANTS = """variants:
  - name: small
    when: {memory_mb: "<=512"}
    model: small.onnx
"""
WIDTH, HIDDEN = 64, 128


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.running(tmp_path / "data") as running:
        yield running


def weights(seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    shapes = {"w1": (WIDTH, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, 4), "b2": (4,)}
    return {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def tuned(base: dict[str, Any]) -> dict[str, Any]:
    """Move every weight of the first layer by a thousandth, and one of the second by 1."""
    noise = np.random.default_rng(9).standard_normal(base["w1"].shape, dtype=np.float32)
    w2 = base["w2"].copy()
    w2[0, 0] += 1
    return {**base, "w1": base["w1"] + np.float32(1e-3) * noise, "w2": w2}


def network(layers: dict[str, Any]) -> onnx.ModelProto:
    """Return a network of two layers, whatever these four are called."""
    w1, b1, w2, b2 = layers
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", w1, b1], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", w2, b2], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", layers[w1].shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", layers[w2].shape[1]])],
        [numpy_helper.from_array(array, name) for name, array in layers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def bundle(directory: Path, layers: dict[str, Any], *, yaml: str = YAML, **more: bytes) -> Path:
    """Write a bundle with this network and further files, "small.onnx" called `small_onnx`."""
    directory.mkdir()
    (directory / "model.onnx").write_bytes(network(layers).SerializeToString())
    (directory / "bundle.yaml").write_text(yaml)
    for name, content in more.items():
        (directory / name.replace("_", ".")).write_bytes(content)
    return directory


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A bundle, and the same trained on, with a bias called otherwise and other files beside it."""
    old, new = weights(), tuned(weights())
    renamed = {"w1": new["w1"], "bias": new["b1"], "w2": new["w2"], "b2": new["b2"]}
    return (
        bundle(tmp_path / "v1", old, gone_txt=b"gone", here_txt=b"same", then_txt=b"moved"),
        bundle(tmp_path / "v2", renamed, new_txt=b"new", here_txt=b"same", now_txt=b"moved"),
    )


def pushed(run: Run, *directories: Path) -> None:
    for each in directories:
        assert run("models", "push", each).code == 0


def by(rows: list[Any], key: str) -> dict[str, Any]:
    return {row[key]: row for row in rows}


def costs(found: Any) -> dict[tuple[str, bool, str], Any]:
    return {
        (row["variant"], row["holds"] is not None, row["encodings"]): row for row in found["costs"]
    }


def test_every_tensor_is_told_by_what_became_of_it(run: Run, pair: tuple[Path, Path]) -> None:
    pushed(run, *pair)
    found = run("models", "diff", "net:1", "net:2", "--json").json()
    tensors = by(found["tensors"], "name")

    assert {name: each["state"] for name, each in tensors.items()} == {
        "w1": "changed",
        "bias": "same",
        "w2": "changed",
        "b2": "same",
    }
    assert tensors["bias"]["old_name"] == "b1"
    assert tensors["w1"]["share"] > 0.99
    assert tensors["w1"]["rms"] == pytest.approx(1e-3, rel=0.1)
    assert tensors["w2"]["share"] == pytest.approx(1 / (HIDDEN * 4))
    assert tensors["w2"]["largest"] == pytest.approx(1.0, rel=1e-5)
    assert (tensors["w2"]["type"], tensors["w2"]["shape"]) == ("fp32", [HIDDEN, 4])
    assert found["tensor_counts"] == {"changed": 2, "same": 2}


def test_every_file_is_told_by_what_became_of_it(run: Run, pair: tuple[Path, Path]) -> None:
    pushed(run, *pair)
    found = run("models", "diff", "net:1", "net", "--json").json()
    files = by(found["files"], "path")

    assert {path: each["state"] for path, each in files.items()} == {
        "bundle.yaml": "same",
        "model.onnx": "changed",
        "here.txt": "same",
        "new.txt": "added",
        "now.txt": "renamed",
        "gone.txt": "removed",
    }
    assert files["now.txt"]["old_path"] == "then.txt"
    assert (files["gone.txt"]["size_bytes"], files["gone.txt"]["old_size_bytes"]) == (None, 4)
    assert (found["old"], found["new"]) == ("net:1", "net:2")


def test_layers_that_grow_come_and_go_change_the_signature_too(run: Run, tmp_path: Path) -> None:
    old = weights()
    new = {**old, "w2": np.ones((HIDDEN, 5), np.float32), "b2": np.append(old["b2"], np.float32(7))}
    first, second = bundle(tmp_path / "v1", old), bundle(tmp_path / "v2", new)
    found = run("models", "diff", first, second, "--json").json()
    states = [(each["name"], each["state"]) for each in found["tensors"]]

    assert found["signature"] == [
        {"side": "output", "name": "y", "old": "FP32[-1,4]", "new": "FP32[-1,5]"}
    ]
    assert ("b2", "resized") in states
    assert {("w2", "added"), ("w2", "removed")} <= set(states)


def test_an_update_costs_what_is_made_for_it(
    registry: Registry, run: Run, pair: tuple[Path, Path]
) -> None:
    pushed(run, *pair)
    before = registry.get("/api/v1/models/net/versions/1/diff?to=net:2")
    registry_rows.add_device(registry.services, "dev-a")
    with registry.services.reading() as session:
        deltas.report(registry.services, "dev-a", models.version(session, "net", 1))
    Maker(registry.services).work(threading.Event())
    after = registry.get("/api/v1/models/net/versions/1/diff?to=net")
    old, new = (digests.of_file(each / "model.onnx") for each in pair)
    whole = [after["new_bundle"], digests.of_file(pair[1] / "new.txt")]
    sent = [registry.services.encodings.get(Recipe(blob, encodings.ZSTD)) for blob in whole]
    delta = registry.services.encodings.ready(Recipe(new, encodings.TENSOR_DELTA, old))
    assert delta is not None
    row = costs(after)["default", True, "all"]

    assert row["bytes"] == sum(
        each.table.encoded_size + len(each.table_bytes) for each in (*sent, delta)
    )
    assert (row["blobs"], row["deltas"], row["estimated"]) == (3, 1, False)
    # What is made to be measured is what is made to be sent.
    assert before["costs"] == after["costs"]


def test_a_delta_costs_less_than_whole_files_and_these_less_than_everything(
    run: Run, pair: tuple[Path, Path]
) -> None:
    rows = costs(run("models", "diff", *pair, "--json").json())
    count = {key[1:]: row["bytes"] for key, row in rows.items()}

    assert count[True, "all"] < 0.8 * count[True, "zstd"]
    assert count[True, "zstd"] < count[False, "zstd"]
    assert count[False, "all"] < count[False, "zstd"]
    assert {row["deltas"] for key, row in rows.items() if key[1:] != (True, "all")} == {0}


def test_versions_and_directories_are_compared_alike(run: Run, pair: tuple[Path, Path]) -> None:
    pushed(run, *pair)
    there = run("models", "diff", "net:1", "net:2", "--json").json()
    here = run("models", "diff", *pair, "--json").json()
    labels = {"old": "", "new": "", "costs": []}

    assert {**here, **labels} == {**there, **labels}
    assert [{**row, "holds": bool(row["holds"])} for row in here["costs"]] == [
        {**row, "holds": bool(row["holds"])} for row in there["costs"]
    ]


def test_each_variant_costs_what_its_own_files_cost(run: Run, tmp_path: Path) -> None:
    tiny = network(tuned(weights(3))).SerializeToString()
    was = bundle(tmp_path / "v1", weights(), yaml=YAML + VARIANTS, small_onnx=tiny)
    now = bundle(tmp_path / "v2", tuned(weights()), yaml=YAML + VARIANTS, small_onnx=tiny)
    rows = costs(run("models", "diff", was, now, "--json").json())

    assert [key for key in rows if key[1:] == (True, "all")] == [
        ("small", True, "all"),
        ("default", True, "all"),
    ]
    # Only the index is new to those that run the variant whose model stayed.
    assert (rows["small", True, "all"]["blobs"], rows["default", True, "all"]["blobs"]) == (1, 2)
    assert rows["small", True, "all"]["bytes"] < 0.1 * rows["default", True, "all"]["bytes"]
    assert rows["small", False, "all"]["blobs"] == 3


def test_tensors_outside_the_onnx_file_are_told_by_name(run: Run, tmp_path: Path) -> None:
    places = []
    for name, layers in (("v1", weights()), ("v2", tuned(weights()))):
        place = bundle(tmp_path / name, layers)
        target = str(place / "model.onnx")
        onnx.save_model(
            network(layers),
            target,
            save_as_external_data=True,
            location="weights.data",
            size_threshold=0,
        )
        places.append(place)
    found = run("models", "diff", *places, "--json").json()
    states = {(each["file"], each["name"]): each["state"] for each in found["tensors"]}

    assert states["weights.data", "w1"] == "changed"
    assert states["weights.data", "b1"] == "same"


def test_people_see_what_changed_and_all_of_it_if_they_ask(
    run: Run, pair: tuple[Path, Path]
) -> None:
    shown = run("models", "diff", *pair)
    everything = run("models", "diff", *pair, "--all")

    for words in ("w1", "bias", "100 %", "model.onnx", "gone.txt", "2 changed, 2 same", "nothing"):
        assert words in shown.out
    assert ("here.txt" in shown.out, "here.txt" in everything.out) == (False, True)
    assert "The signature is the same." in shown.err


def test_a_version_and_itself_are_the_same(run: Run, pair: tuple[Path, Path]) -> None:
    pushed(run, pair[0])
    shown = run("models", "diff", "net", "net:1")
    found = run("models", "diff", "net", "net:latest", "--json").json()

    assert shown.code == 0, shown.err
    assert "The bundles are the same." in shown.err
    assert found["tensors"] == []
    assert costs(found)["default", True, "all"]["bytes"] == 0


def test_what_cannot_be_compared_is_refused(run: Run, pair: tuple[Path, Path]) -> None:
    pushed(run, pair[0])

    assert run("models", "diff", "net:1", "net:2").code == main.NOT_FOUND
    assert run("models", "diff", "none", "net").code == main.NOT_FOUND
    assert run("models", "diff", "net:1", pair[1]).code == main.BAD_INPUT
    assert run("models", "diff", "net:1", "a:b:c").code == main.BAD_INPUT
    assert run("models", "diff", pair[0], f"{pair[0]}/none").code == main.BAD_INPUT


@pytest.mark.parametrize(("limit", "value"), [("MAX_BYTES", 100), ("MOST_S", -1.0)])
def test_what_is_too_much_for_the_registry_is_to_be_compared_elsewhere(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    for seed in (0, 1):
        registry.register("net", network(weights(seed)).SerializeToString())
    monkeypatch.setattr(differ, limit, value)
    answer = registry.http.get("/api/v1/models/net/versions/1/diff?to=net:2")

    assert answer.status_code == 422
    assert "packhorse models pull" in answer.json()["detail"]
    assert not list(registry.services.store.scratch().iterdir())


def test_one_comparison_runs_at_a_time(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.register("net", b"1")
    monkeypatch.setattr(differ, "_TURN_S", 0.01)
    with registry.services.comparing:
        answer = registry.http.get("/api/v1/models/net/versions/1/diff?to=net:1")

    assert answer.status_code == 503
    assert answer.json()["retryable"] is True


def test_a_model_that_is_no_model_is_compared_as_a_file(registry: Registry) -> None:
    registry.register("noise", b"not an ONNX file")
    registry.register("noise", b"\x08\x07:\xff\xff\xff\xff\x0f")
    found = registry.get("/api/v1/models/noise/versions/1/diff?to=noise:2")

    assert (found["tensors"], [each["state"] for each in found["files"]]) == ([], ["changed"])


@pytest.mark.parametrize("encoding", [encodings.ZSTD, encodings.PLANES, encodings.TENSOR_DELTA])
def test_an_estimate_is_near_what_is_made(
    pair: tuple[Path, Path], tmp_path: Path, encoding: str
) -> None:
    old, new = (each / "model.onnx" for each in pair)
    blobs = {digests.of_file(place): place for place in (old, new)}
    then, now = blobs
    base = then if encoding == encodings.TENSOR_DELTA else None
    exact = sizes.Workshop(blobs, tmp_path, seconds=60.0)(now, encoding, base)
    guess = sizes.Workshop(blobs, tmp_path, seconds=-1.0)(now, encoding, base)

    assert exact is not None
    assert guess is not None
    assert (exact.estimated, guess.estimated) == (False, True)
    assert 0.8 < guess.bytes / exact.bytes < 1.25


def test_blobs_may_lie_in_a_bucket(tmp_path: Path, stores: Stores) -> None:
    with registries.running(tmp_path / "data", stores=stores) as registry:
        for seed in (0, 1):
            registry.register("net", network(weights(seed)).SerializeToString())
        found = registry.get("/api/v1/models/net/versions/1/diff?to=net:2")

    assert found["tensor_counts"] == {"changed": 4}
    assert [row["estimated"] for row in found["costs"]] == [False] * 4
