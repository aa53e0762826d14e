from pathlib import Path

import numpy as np
import pytest

from runtime.bundle import build, variants
from runtime.bundle.index import Check, Loss, Variant
from runtime.errors import InvalidError
from tests.support.bundle_sources import write_checked_bundle, write_model

VARIANTS = """
variants:
  - name: board
    when: {arch: [aarch64, armv7l], memory_mb: "<=2048"}
    model: board.onnx
    check: {inputs: golden/inputs.npz, outputs: golden/board.npz, atol: 0.5}
    lost: {metric: error, value: 0.01, rows: 2}
  - {name: gpu, when: {provider: cuda}, model: gpu.onnx, providers: [CUDAExecutionProvider]}
"""


def write(directory: Path, yaml: str = VARIANTS) -> Path:
    write_checked_bundle(directory)
    write_model(directory / "board.onnx", factor=2.001, external="board.bin")
    write_model(directory / "gpu.onnx", factor=2.002)
    x = np.load(directory / "golden/inputs.npz")["x"]
    np.savez(directory / "golden/board.npz", y=x * np.float32(2.001))
    with (directory / "bundle.yaml").open("a") as file:
        file.write(yaml)
    return directory


def test_variants_are_read_with_what_each_alone_needs(tmp_path: Path) -> None:
    made = build.build(write(tmp_path)).index

    assert made.variants == (
        Variant(
            "board",
            {"arch": ("aarch64", "armv7l"), "memory_mb": ("<=2048",)},
            "board.onnx",
            only=("board.bin", "board.onnx", "golden/board.npz"),
            check=Check("golden/inputs.npz", "golden/board.npz", atol=0.5),
            lost=Loss("error", 0.01, 2),
        ),
        Variant(
            "gpu",
            {"provider": ("cuda",)},
            "gpu.onnx",
            only=("gpu.onnx",),
            providers=("CUDAExecutionProvider",),
        ),
    )
    assert made.only == ("model.onnx",)


def test_a_board_needs_only_its_own_model(tmp_path: Path) -> None:
    made = build.build(write(tmp_path)).index
    facts = {"arch": "armv7l", "memory_mb": "900"}

    paths = {entry.path for entry in variants.seen_by(made, facts).files}

    assert {"board.onnx", "board.bin", "golden/board.npz"} <= paths
    assert not paths & {"model.onnx", "gpu.onnx"}


def test_weights_that_two_variants_share_belong_to_neither_alone(tmp_path: Path) -> None:
    twin = "  - {name: twin, when: {arch: riscv64}, model: twin.onnx}\n"
    write(tmp_path, VARIANTS + twin)
    (tmp_path / "twin.onnx").write_bytes((tmp_path / "board.onnx").read_bytes())

    made = build.build(tmp_path).index

    assert [each.only for each in made.variants] == [
        ("board.onnx", "golden/board.npz"),
        ("gpu.onnx",),
        ("twin.onnx",),
    ]


@pytest.mark.parametrize(
    ("was", "becomes", "field"),
    [
        ("name: board", "name: default", r"variants\[0\]\.name"),
        ("name: gpu", "name: board", "variants"),
        ("model: gpu.onnx", "model: gone.onnx", r"variants\[gpu\]\.model"),
        ("golden/board.npz", "golden/gone.npz", r"variants\[board\]\.check\.outputs"),
        ("when: {provider: cuda}", "when: {}", r"variants\[1\]\.when"),
        ('"<=2048"', '"<=lots"', r"variants\[0\]\.when\.memory_mb"),
        ("lost: {metric", "lost: {metrik", r"variants\[0\]\.lost\.metrik"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, was: str, becomes: str, field: str) -> None:
    assert was in VARIANTS
    with pytest.raises(InvalidError, match=f"^{field}: "):
        build.build(write(tmp_path, VARIANTS.replace(was, becomes)))


def test_a_variant_takes_and_gives_the_same(tmp_path: Path) -> None:
    write(tmp_path)
    other = tmp_path / "other"
    write_model(other.with_suffix(".onnx"), factor=1.0)
    renamed = other.with_suffix(".onnx").read_bytes().replace(b"\x01y", b"\x01z")
    (tmp_path / "gpu.onnx").write_bytes(renamed)

    with pytest.raises(InvalidError, match=r"variants\[gpu\]\.model: .*take and give the same"):
        build.build(tmp_path)


def test_a_script_has_no_variants(tmp_path: Path) -> None:
    yaml = "name: m\nkind: python\nentry: s.py\n" + VARIANTS
    (tmp_path / "bundle.yaml").write_text(yaml)

    with pytest.raises(InvalidError, match=r"^variants: .*only kind onnx"):
        build.build(tmp_path)
