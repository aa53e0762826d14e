from pathlib import Path

import numpy as np
import pytest
import yaml

from cloud import variants
from cloud.variants import Wish
from runtime.bundle import build
from runtime.bundle import variants as seeing
from runtime.errors import InvalidError, ModelError
from runtime.inference import check
from runtime.inference.model import Model
from runtime.inference.session import Session
from tests.support import fleets, models

ROWS = 32


def write(directory: Path, *, checked: bool = True) -> Path:
    """Write a bundle with a small network that quantising changes a little."""
    model = models.write(directory / "model.onnx", models.mlp_model())
    text = "# kept\nname: small\nkind: onnx\nmodel: model.onnx\n"
    x = np.random.default_rng(3).standard_normal((ROWS, 16)).astype(np.float32)
    np.savez(directory / "inputs.npz", x=x)
    if checked:
        text += "check: {inputs: inputs.npz, outputs: outputs.npz}\n"
        np.savez(directory / "outputs.npz", **Session(model).run({"x": x}))
    (directory / "bundle.yaml").write_text(text + "tags: {task: toy}\n")
    return directory


def test_an_int8_variant_is_measured_and_passes_its_own_check(tmp_path: Path) -> None:
    made = variants.add(write(tmp_path), Wish(tolerance=0.2))

    (variant,) = build.build(tmp_path).index.variants
    assert (variant.name, variant.model) == ("int8", "model.int8.onnx")
    assert variant.when == {"memory_mb": ("<=2048",)}
    assert variant.lost is not None
    assert variant.lost.value == pytest.approx(made.lost.value, abs=1e-5)
    assert variant.lost.rows == ROWS
    seen = seeing.named(build.build(tmp_path).index, "int8")
    assert check.run_check(Model.load(tmp_path, seen), tmp_path, seen).ok


def test_every_other_line_of_the_bundle_stays(tmp_path: Path) -> None:
    before = (write(tmp_path) / "bundle.yaml").read_text()

    variants.add(tmp_path, Wish(tolerance=0.2))
    variants.add(tmp_path, Wish(name="second", when={"arch": ("armv7l",)}, tolerance=0.2))

    text = (tmp_path / "bundle.yaml").read_text()
    assert text.startswith(before)
    assert [each["name"] for each in yaml.safe_load(text)["variants"]] == ["int8", "second"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a: 1\n", ["new"]),
        ("a: 1", ["new"]),
        ("variants: []\nb: 2\n", ["new"]),
        ("variants:\n  - name: old\n# said\nb: 2\n", ["old", "new"]),
        ("variants:\n- name: old\n\nb: 2\n", ["old", "new"]),
        ("variants: # these\n  - name: old\n", ["old", "new"]),
    ],
)
def test_a_variant_goes_behind_those_that_are_there(text: str, names: list[str]) -> None:
    made = variants.with_variant(text, {"name": "new", "model": "m.onnx"})

    assert [each["name"] for each in yaml.safe_load(made)["variants"]] == names
    assert {key for key in yaml.safe_load(made) if key != "variants"} == {
        key for key in yaml.safe_load(text) if key != "variants"
    }


def test_one_that_loses_too_much_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    models.write(tmp_path.parent / "other.onnx", models.mlp_model(seed=9))
    before = fleets.tree(tmp_path), (tmp_path / "bundle.yaml").read_text()
    wish = Wish("other", tmp_path.parent / "other.onnx", {"arch": ("x",)})

    with pytest.raises(InvalidError, match=r"^tolerance: .*the variant loses 0\.\d"):
        variants.add(tmp_path, wish)
    assert (fleets.tree(tmp_path), (tmp_path / "bundle.yaml").read_text()) == before


@pytest.mark.parametrize(
    ("model", "field"),
    [(models.linear_model(), "variant"), (models.mlp_model()[:100], None)],
    ids=["another signature", "cut"],
)
def test_another_model_or_none_is_refused(tmp_path: Path, model: bytes, field: str | None) -> None:
    write(tmp_path / "bundle")
    file = models.write(tmp_path / "other.onnx", model)

    with pytest.raises((InvalidError, ModelError), match=field or "does not load"):
        variants.add(tmp_path / "bundle", Wish("other", file, {"arch": ("x",)}))


def test_without_inputs_to_measure_on_it_is_refused(tmp_path: Path) -> None:
    write(tmp_path, checked=False)

    with pytest.raises(InvalidError, match="give --examples"):
        variants.add(tmp_path, Wish())
    variants.add(tmp_path, Wish(examples=tmp_path / "inputs.npz", tolerance=0.2))


def test_a_name_is_given_once(tmp_path: Path) -> None:
    variants.add(write(tmp_path), Wish(tolerance=0.2))

    with pytest.raises(InvalidError, match="there is one already"):
        variants.add(tmp_path, Wish(tolerance=0.2))


def test_a_script_has_no_variants(tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("def run(inputs):\n    return inputs\n")
    (tmp_path / "bundle.yaml").write_text(
        "name: s\nkind: python\nentry: score.py\nsignature:\n"
        "  inputs: [{name: x, datatype: FP32, shape: [-1]}]\n"
        "  outputs: [{name: x, datatype: FP32, shape: [-1]}]\n"
    )

    with pytest.raises(InvalidError, match="only a model of kind onnx"):
        variants.add(tmp_path, Wish())
