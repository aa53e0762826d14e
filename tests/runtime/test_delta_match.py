from collections.abc import Sequence

import numpy as np
import pytest

from runtime.bundle.delta import compare, detect, planner, tensors
from runtime.bundle.delta.compare import State
from runtime.bundle.delta.plan import Change, Copy, ElementType, Fresh, Segment
from tests.support import delta_graphs
from tests.support.delta_graphs import Weights

FP32 = ElementType.FP32


def plan(old: bytes, new: bytes) -> list[Segment]:
    then, now = delta_graphs.as_bytes(old), delta_graphs.as_bytes(new)
    made = planner.tensor_plan(then, now, *tensors.find_both(then, now))
    assert delta_graphs.followed(made, old, new) == new
    return made


def share(segments: Sequence[Segment], kind: type[Segment], type_: ElementType = FP32) -> float:
    """Return the part of the new file that segments of a kind are."""
    chosen = [
        segment.length
        for segment in segments
        if isinstance(segment, kind) and getattr(segment, "type", type_) is type_
    ]
    return sum(chosen) / sum(segment.length for segment in segments)


def onnx(layers: Weights) -> bytes:
    return delta_graphs.onnx_file(layers)


BASE = delta_graphs.weights()
TUNED = delta_graphs.tuned(BASE)


def test_tuned_weights_are_changes_of_the_old_ones() -> None:
    assert share(plan(onnx(BASE), onnx(TUNED)), Change) > 0.98


def test_unchanged_weights_are_copied_and_a_new_head_is_fresh() -> None:
    head = np.random.default_rng(9).normal(0, 1, (64, 64)).astype(np.float32)

    made = plan(onnx(BASE), onnx({**BASE, "layers.2.weight": head}))

    assert share(made, Fresh) == pytest.approx(head.nbytes / len(onnx(BASE)), rel=0.01)
    assert share(made, Copy) > 0.75


def test_renamed_and_reordered_weights_are_found_by_what_they_are() -> None:
    renamed = {f"onnx::MatMul_{n}": BASE[name] for n, name in enumerate(sorted(BASE))}

    assert share(plan(onnx(BASE), onnx(renamed)), Copy) > 0.98


def test_tuned_weights_are_found_under_one_another_s_names() -> None:
    swapped = {**TUNED, "embedding": TUNED["embedding"][::1]}
    swapped["layers.0.weight"], swapped["layers.1.weight"] = (
        TUNED["layers.1.weight"],
        TUNED["layers.0.weight"],
    )

    assert share(plan(onnx(BASE), onnx(swapped)), Change) > 0.98


@pytest.mark.parametrize("at", [0, 50, 128], ids=["in front", "within", "at the end"])
@pytest.mark.parametrize("layers", [BASE, TUNED], ids=["untouched", "tuned"])
def test_rows_put_into_a_table_are_all_that_is_fresh(at: int, layers: Weights) -> None:
    rng = np.random.default_rng(4)
    base = {"embedding": rng.normal(0, 1, (2000, 64)).astype(np.float32)}
    chosen = base if layers is BASE else delta_graphs.tuned(base)
    rows = rng.normal(0, 1, (20, 64)).astype(np.float32)
    grown = {"embedding": np.insert(chosen["embedding"], [at * 15] * 20, rows, axis=0)}

    made = plan(onnx(base), onnx(grown))

    assert share(made, Fresh) < 0.06


def test_weights_of_another_network_are_fresh_and_typed() -> None:
    made = plan(onnx(BASE), onnx(delta_graphs.weights(seed=77)))

    assert share(made, Fresh) > 0.95


def test_numbers_that_nobody_described_are_told_by_their_bytes() -> None:
    base = delta_graphs.weights(width=192)
    made = plan(delta_graphs.raw_file(base), delta_graphs.raw_file(delta_graphs.tuned(base)))

    assert share(made, Change) > 0.99


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(np.float16, ElementType.FP16), (np.float32, FP32), (np.float64, ElementType.FP64)],
)
def test_the_width_and_the_beginning_of_numbers_are_guessed(dtype: type, kind: ElementType) -> None:
    values = np.random.default_rng(1).normal(0, 1, 40_000).astype(dtype).tobytes()

    (found,) = detect.extents(delta_graphs.as_bytes(b"abc" + values))

    assert (found.type, (found.offset - 3) % kind.width) == (kind, 0)


def test_text_is_not_taken_for_numbers() -> None:
    text = b"".join(f"{n}: {n * n}, value {n % 17}\n".encode() for n in range(20_000))

    assert detect.extents(delta_graphs.as_bytes(text)) == ()


def test_pruned_weights_stay_with_the_tensor_that_they_are_left_of() -> None:
    pruned = {
        name: np.where(np.abs(array) < np.median(np.abs(array)), 0, array).astype(np.float32)
        for name, array in BASE.items()
    }

    assert share(plan(onnx(BASE), onnx(pruned)), Change) > 0.9


def test_a_comparison_says_what_became_of_each_tensor() -> None:
    rng = np.random.default_rng(0)
    new = {name: array.copy() for name, array in BASE.items()}
    new["layers.0.weight"][0, 0] += 0.5
    new["first.weight"] = new.pop("layers.1.weight")
    new["embedding"] = np.concatenate([new["embedding"], rng.normal(0, 1, (3, 64))])
    new["extra"] = rng.normal(0, 1, (7, 7))
    del new["layers.2.weight"]
    single = {name: array.astype(np.float32) for name, array in new.items()}

    found = {
        each.name: each
        for each in compare.compare(
            delta_graphs.as_bytes(onnx(BASE)), delta_graphs.as_bytes(onnx(single))
        )
    }

    assert {name: each.state for name, each in found.items()} == {
        "embedding": State.RESIZED,
        "layers.0.weight": State.CHANGED,
        "layers.0.bias": State.SAME,
        "layers.1.bias": State.SAME,
        "layers.2.bias": State.SAME,
        "first.weight": State.SAME,
        "extra": State.ADDED,
        "layers.2.weight": State.REMOVED,
    }
    assert found["first.weight"].old_name == "layers.1.weight"
    changed = found["layers.0.weight"]
    assert (changed.largest, changed.rms) == pytest.approx((0.5, 0.5 / 64), rel=1e-3)
    assert changed.share == pytest.approx(1 / 4096)
    assert (found["embedding"].old_shape, found["embedding"].shape) == ((128, 64), (131, 64))
