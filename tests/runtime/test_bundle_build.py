import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle import index
from runtime.bundle.build import build
from runtime.bundle.index import Signature, TensorSpec
from runtime.errors import InvalidError
from tests.support.bundle_sources import write_bundle, write_checked_bundle

CHECKED = (
    "name: scale\nkind: onnx\nmodel: model.onnx\n"
    "check: {inputs: golden/inputs.npz, outputs: golden/outputs.npz}\n"
)


def test_a_bundle_lists_its_files_and_the_models_signature(tmp_path: Path) -> None:
    built = build(write_checked_bundle(tmp_path))

    assert [entry.path for entry in built.index.files] == [
        "bundle.yaml",
        "golden/inputs.npz",
        "golden/outputs.npz",
        "model.onnx",
    ]
    assert built.index.signature == Signature(
        inputs=(TensorSpec("x", "FP32", (-1, 4)),), outputs=(TensorSpec("y", "FP32", (-1, 4)),)
    )
    assert built.digest == index.identity(built.index)
    assert {entry.sha256 for entry in built.index.files} == set(built.files)
    assert index.decode(built.index_bytes) == built.index


def test_identity_is_that_of_paths_contents_and_executable_bits_alone(tmp_path: Path) -> None:
    first = write_checked_bundle(tmp_path / "first")
    before = build(first).digest
    second = tmp_path / "second"
    second.mkdir()
    for path in sorted(first.rglob("*"), reverse=True):
        copy = second / path.relative_to(first)
        copy.parent.mkdir(exist_ok=True)
        if path.is_file():
            shutil.copyfile(path, copy)
            copy.chmod(0o664)
            os.utime(copy, (1, 1))

    assert build(second).digest == before
    (second / "golden" / "inputs.npz").chmod(0o744)
    assert build(second).digest != before


def test_external_data_belongs_to_the_bundle(tmp_path: Path) -> None:
    built = build(write_bundle(tmp_path, external="weights.bin"))

    assert [entry.path for entry in built.index.files] == [
        "bundle.yaml",
        "model.onnx",
        "weights.bin",
    ]


def test_missing_external_data_is_the_models_fault(tmp_path: Path) -> None:
    write_bundle(tmp_path, external="weights.bin")
    (tmp_path / "weights.bin").unlink()

    with pytest.raises(InvalidError, match=r"^model: .*weights\.bin"):
        build(tmp_path)


def test_hidden_external_data_is_refused_for_it_would_stay_behind(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match=r"^model: .*it needs \.weights: .*rename it"):
        build(write_bundle(tmp_path, external=".weights"))


def test_what_editors_and_python_leave_behind_is_left_out(tmp_path: Path) -> None:
    plain = build(write_bundle(tmp_path)).digest
    for name in (".git/config", "__pycache__/score.pyc", ".model.onnx.swp", "old.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("left behind")

    assert build(tmp_path).digest == plain


def test_a_link_to_a_file_is_that_file(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    plain = build(tmp_path / "bundle").digest
    (tmp_path / "bundle" / "model.onnx").rename(tmp_path / "trained.onnx")
    (tmp_path / "bundle" / "model.onnx").symlink_to(tmp_path / "trained.onnx")

    assert build(tmp_path / "bundle").digest == plain


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path.parent)
    with pytest.raises(InvalidError, match="a link to a directory is not followed"):
        build(tmp_path)
    (tmp_path / "linked").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidError, match="only files and directories"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("model: gone.onnx", r"^model: 'gone\.onnx' .*there is no such file"),
        ("model: .hidden.onnx", r"^model: .*hidden files are left out"),
        ("model: model.onnx\nentry: gone.py", r"^entry: 'gone\.py' "),
        ("model: model.onnx\ncheck: {inputs: gone.npz}", r"^check\.inputs: 'gone\.npz' "),
        (
            "model: model.onnx\ncheck: {inputs: bundle.yaml, outputs: gone.npz}",
            r"^check\.outputs: 'gone\.npz' ",
        ),
        ("model: model.onnx\ncheck: {inputs: bundle.yaml}", r"^check\.inputs: .*numpy\.savez"),
    ],
)
def test_a_file_that_is_named_must_be_there(tmp_path: Path, yaml: str, message: str) -> None:
    write_bundle(tmp_path, yaml=f"name: scale\nkind: onnx\n{yaml}\n")

    with pytest.raises(InvalidError, match=message):
        build(tmp_path)


@pytest.mark.parametrize("keep_bytes", [0, 7, 60, -20])
def test_a_corrupt_model_is_refused(tmp_path: Path, keep_bytes: int) -> None:
    write_bundle(tmp_path)
    whole = (tmp_path / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(whole[:keep_bytes])

    with pytest.raises(InvalidError, match=r"^model: 'model\.onnx' .*does not load"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({"z": np.zeros((1, 4), np.float32)}, {}, r"^check\.inputs: 'inputs\.npz: z' .*has x"),
        ({"x": np.zeros((1, 4))}, {}, r"^check\.inputs\[x\]: 'FP64' .*has FP32"),
        ({"x": np.zeros(4, np.float32)}, {}, r"^check\.inputs\[x\]: \(4,\) .*\(any, 4\)"),
        ({"x": np.zeros((1, 5), np.float32)}, {}, r"^check\.inputs\[x\]: \(1, 5\) "),
        ({"x": np.array([[{}]])}, {}, r"^check\.inputs: .*pickled objects"),
        (
            {"x": np.zeros((1, 4), np.float32)},
            {"y": np.zeros((1, 4), np.int64)},
            r"^check\.outputs\[y\]: 'INT64' .*has FP32",
        ),
        ({"x": np.zeros((1, 4), np.float32)}, {}, r"^check\.outputs: .*0 arrays"),
    ],
)
def test_the_checks_arrays_must_fit_the_model(
    tmp_path: Path,
    inputs: dict[str, np.ndarray],
    outputs: dict[str, np.ndarray],
    message: str,
) -> None:
    write_bundle(tmp_path, yaml=CHECKED)
    (tmp_path / "golden").mkdir()
    np.savez(tmp_path / "golden" / "inputs.npz", **inputs)  # type: ignore[arg-type]  # names are keys
    np.savez(tmp_path / "golden" / "outputs.npz", **outputs)  # type: ignore[arg-type]  # as above

    with pytest.raises(InvalidError, match=message):
        build(tmp_path)


def test_an_entry_brings_the_modules_beside_it(tmp_path: Path) -> None:
    write_bundle(tmp_path, yaml="name: scale\nkind: onnx\nmodel: model.onnx\nentry: score.py\n")
    (tmp_path / "score.py").write_text("import features\n")
    (tmp_path / "features.py").write_text("")

    built = build(tmp_path)

    assert built.index.entry == "score.py"
    assert {"score.py", "features.py"} < {entry.path for entry in built.index.files}
