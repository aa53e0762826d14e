import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle import index
from runtime.bundle.build import build
from runtime.bundle.index import Signature, TensorSpec
from runtime.errors import InvalidError
from tests.support import scripts
from tests.support.bundle_sources import write_bundle, write_checked_bundle

TOTAL = Signature(
    inputs=(TensorSpec("x", "FP32", (-1, 4)),), outputs=(TensorSpec("y", "FP32", (-1,)),)
)

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

    with pytest.raises(InvalidError, match=r"^model: .*needs weights\.bin, which is not there"):
        build(tmp_path)


def test_weights_that_are_links_into_a_cache_are_the_files_themselves(tmp_path: Path) -> None:
    """As a cache of models lays them out; onnxruntime itself would refuse such links."""
    bundle = write_bundle(tmp_path / "bundle", external="weights.bin")
    plain = build(bundle).digest
    for number, name in enumerate(("model.onnx", "weights.bin")):
        cached = tmp_path / str(number) / "sha"
        cached.parent.mkdir()
        (bundle / name).rename(cached)
        (bundle / name).symlink_to(cached)

    assert build(bundle).digest == plain


def test_weights_outside_the_bundle_are_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", external="weights.bin")
    model = (bundle / "model.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes(model.replace(b"weights.bin", b"../ghts.bin"))
    (tmp_path / "ghts.bin").write_bytes((bundle / "weights.bin").read_bytes())

    with pytest.raises(InvalidError, match=r"^model: .*weights must lie beside the model"):
        build(bundle)


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


def test_a_script_is_a_bundle_of_its_own_kind(tmp_path: Path) -> None:
    requirements = "requirements: requirements.txt\ncard: README.md\nmetadata: {run: a17}\n"
    scripts.write(tmp_path, yaml=scripts.SIGNATURE + requirements)
    (tmp_path / "requirements.txt").write_text("numpy>=2  # arrays\n")
    (tmp_path / "README.md").write_text("# What it is for\n")

    made = build(tmp_path).index

    assert (made.kind, made.model, made.entry) == ("python", "model.json", "score.py")
    assert made.signature == TOTAL
    assert (made.requirements, made.card) == (("numpy>=2",), "README.md")
    assert (made.needs, made.metadata) == ((), {"run": "a17"})


def test_the_checks_arrays_are_signature_enough(tmp_path: Path) -> None:
    assert build(scripts.write(tmp_path, yaml=scripts.CHECK)).index.signature == TOTAL


def test_a_script_without_any_signature_is_told_where_to_write_one(tmp_path: Path) -> None:
    scripts.write(tmp_path, yaml="check: {inputs: inputs.npz}\n")

    with pytest.raises(
        InvalidError, match=r"^signature: .*or name check\.inputs and check\.outputs"
    ):
        build(tmp_path)


def test_a_signature_that_the_check_contradicts_is_refused(tmp_path: Path) -> None:
    scripts.write(tmp_path, yaml=scripts.SIGNATURE.replace("-1, 4", "-1, 5") + scripts.CHECK)

    with pytest.raises(InvalidError, match=r"^check\.inputs\[x\]: "):
        build(tmp_path)


@pytest.mark.parametrize("field", ["requirements", "card"])
def test_a_document_that_is_named_must_be_there(tmp_path: Path, field: str) -> None:
    scripts.write(tmp_path, yaml=scripts.SIGNATURE + f"{field}: gone.txt\n")

    with pytest.raises(InvalidError, match=f"^{field}: 'gone.txt' .*there is no such file"):
        build(tmp_path)


def test_a_pickle_that_a_script_could_load_is_told(tmp_path: Path) -> None:
    pickled = scripts.write(tmp_path / "script")
    (pickled / "weights").write_bytes(pickle.dumps(Path))
    plain = write_bundle(tmp_path / "graph")
    (plain / "trained.pkl").write_bytes(b"left behind; nothing here could load it")

    assert build(pickled).index.needs == ("pickle",)
    assert build(plain).index.needs == ()


def test_an_entry_brings_the_modules_beside_it(tmp_path: Path) -> None:
    write_bundle(tmp_path, yaml="name: scale\nkind: onnx\nmodel: model.onnx\nentry: score.py\n")
    (tmp_path / "score.py").write_text("import features\n")
    (tmp_path / "features.py").write_text("")

    built = build(tmp_path)

    assert built.index.entry == "score.py"
    assert {"score.py", "features.py"} < {entry.path for entry in built.index.files}
