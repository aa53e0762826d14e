import pytest

from runtime.bundle import conditions, index, variants
from runtime.bundle.index import Check, FileEntry, Index, Signature, TensorSpec, Variant
from runtime.digests import Digest
from runtime.errors import InvalidError

PI = {"arch": "aarch64", "memory_mb": "3900", "providers": "CPUExecutionProvider"}
JETSON = {
    "arch": "aarch64",
    "accelerator": "jetson",
    "memory_mb": "7800",
    "jetpack": "6.1",
    "providers": "TensorrtExecutionProvider,CUDAExecutionProvider,CPUExecutionProvider",
}
SERVER = {"arch": "x86_64", "accelerator": "none", "memory_mb": "64000"}

TENSORRT = Variant(
    "tensorrt",
    {"arch": ("aarch64",), "accelerator": ("tensorrt",)},
    "model.fp16.onnx",
    only=("model.fp16.onnx",),
    providers=("TensorrtExecutionProvider",),
)
SMALL = Variant(
    "int8",
    {"memory_mb": ("<=4096",)},
    "model.int8.onnx",
    only=("model.int8.onnx", "golden/int8.npz"),
    check=Check("golden/in.npz", "golden/int8.npz"),
)


def bundle(*made: Variant) -> Index:
    paths = ["model.onnx", "weights.bin", "golden/in.npz", *(p for each in made for p in each.only)]
    tensor = TensorSpec("x", "FP32", (-1, 2))
    return Index(
        format=1,
        name="m",
        kind="onnx",
        model="model.onnx",
        files=tuple(FileEntry(path, 1, Digest("0" * 64)) for path in paths),
        signature=Signature((tensor,), (tensor,)),
        check=Check("golden/in.npz"),
        variants=made,
        only=("model.onnx", "weights.bin"),
    )


def paths(seen: Index) -> set[str]:
    return {entry.path for entry in seen.files}


@pytest.mark.parametrize(
    ("facts", "name"), [(PI, "int8"), (JETSON, "tensorrt"), (SERVER, "default"), ({}, "default")]
)
def test_the_first_variant_that_the_device_fulfils_is_chosen(
    facts: dict[str, str], name: str
) -> None:
    assert variants.name_of(bundle(TENSORRT, SMALL), facts) == name


def test_the_order_decides_between_two_that_fit() -> None:
    facts = {**JETSON, "memory_mb": "2000"}

    assert variants.name_of(bundle(TENSORRT, SMALL), facts) == "tensorrt"
    assert variants.name_of(bundle(SMALL, TENSORRT), facts) == "int8"


def test_a_device_sees_its_own_model_and_needs_no_file_of_the_others() -> None:
    seen = variants.seen_by(bundle(TENSORRT, SMALL), PI)

    assert (seen.model, seen.check) == ("model.int8.onnx", SMALL.check)
    assert paths(seen) == {"model.int8.onnx", "golden/int8.npz", "golden/in.npz"}
    index.validate(seen)


def test_without_a_match_a_device_sees_the_top_level_alone() -> None:
    seen = variants.seen_by(bundle(TENSORRT, SMALL), SERVER)

    assert seen.model == "model.onnx"
    assert paths(seen) == {"model.onnx", "weights.bin", "golden/in.npz"}


def test_a_variant_brings_its_providers_and_keeps_the_bundles_check() -> None:
    seen = variants.named(bundle(TENSORRT), "tensorrt")

    assert seen.providers == ("TensorrtExecutionProvider",)
    assert seen.check == Check("golden/in.npz")


def test_a_bundle_without_variants_is_seen_as_it_is() -> None:
    made = bundle()

    assert variants.seen_by(made, JETSON) is made


@pytest.mark.parametrize(
    ("conditions", "fits"),
    [
        ({"jetpack": ("6.1",)}, True),
        ({"jetpack": (">=6",)}, True),
        ({"jetpack": (">6.1",)}, False),
        ({"jetpack": ("<6.10",)}, True),
        ({"jetpack": ("!=6.1",)}, False),
        ({"memory_mb": (">= 4096",)}, True),
        ({"arch": ("x86_64", "aarch64")}, True),
        ({"arch": ("AArch64",)}, True),
        ({"provider": ("CUDAExecutionProvider",)}, True),
        ({"provider": ("cuda",)}, True),
        ({"provider": ("openvino",)}, False),
        ({"accelerator": ("jetson",)}, True),
        ({"accelerator": ("!=tensorrt",)}, False),
        ({"npu": ("yes",)}, False),
        ({"npu": ("!=yes",)}, True),
        ({"npu": (">=1",)}, False),
        ({"arch": (">=1",)}, False),
        ({}, True),
    ],
)
def test_conditions_compare_facts(conditions: dict[str, tuple[str, ...]], fits: bool) -> None:  # noqa: FBT001 - a table's column
    assert variants.matches(Variant("v", conditions, "m.onnx"), JETSON) is fits


@pytest.mark.parametrize("text", ["", " ", ">=", "<lots", ">=1.x"])
def test_a_condition_that_compares_with_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match=r"variants\[0\]\.when"):
        conditions.require(text, "variants[0].when.memory_mb")


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidError, match="default, int8"):
        variants.named(bundle(SMALL), "fp16")
