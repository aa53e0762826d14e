"""Whatever an edit does to a graph, the plan is all of the new file, and the delta makes it."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.bundle.delta import apply, make, planner, tensors
from tests.support import delta_graphs
from tests.support.delta_graphs import Weights

Edit = Callable[[Weights, np.random.Generator], Weights]
BASE = delta_graphs.weights(layers=2, width=24)
WRITERS = st.sampled_from((
    delta_graphs.onnx_file, delta_graphs.safetensors_file, delta_graphs.raw_file
))  # fmt: skip
QUICK = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def tune(layers: Weights, rng: np.random.Generator) -> Weights:
    with np.errstate(invalid="ignore"):  # a layer with infinities has no deviation
        return delta_graphs.tuned(layers, seed=int(rng.integers(1 << 30)))


def retrain(layers: Weights, rng: np.random.Generator) -> Weights:
    name = rng.choice(list(layers))
    return {**layers, name: rng.normal(0, 1, layers[name].shape).astype(np.float32)}


def rename(layers: Weights, rng: np.random.Generator) -> Weights:
    return {f"{name}.{rng.integers(99)}": array for name, array in layers.items()}


def reorder(layers: Weights, rng: np.random.Generator) -> Weights:
    return {str(name): layers[str(name)] for name in rng.permutation(list(layers))}


def put_rows_in(layers: Weights, rng: np.random.Generator) -> Weights:
    name = str(rng.choice([name for name, array in layers.items() if array.ndim == 2]))
    table = layers[name]
    rows = rng.normal(0, 1, (int(rng.integers(1, 9)), table.shape[1])).astype(np.float32)
    return {**layers, name: np.insert(table, [rng.integers(len(table) + 1)] * len(rows), rows, 0)}


def drop(layers: Weights, rng: np.random.Generator) -> Weights:
    gone = rng.choice(list(layers))
    return {name: array for name, array in layers.items() if name != gone or len(layers) == 1}


def spoil(layers: Weights, rng: np.random.Generator) -> Weights:
    """Put in NaN, infinities, negative zero and a denormal."""
    name = str(rng.choice(list(layers)))
    array = layers[name].copy().reshape(-1)
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-42], np.float32)
    array[rng.integers(0, array.size, 9)] = rng.choice(special, 9)
    return {**layers, name: array.reshape(layers[name].shape)}


EDITS: st.SearchStrategy[list[Edit]] = st.lists(
    st.sampled_from((tune, retrain, rename, reorder, put_rows_in, drop, spoil)), max_size=4
)


def edited(edits: list[Edit], seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    layers = BASE
    for edit in edits:
        layers = edit(layers, rng)
    return layers


@QUICK
@given(edits=EDITS, seed=st.integers(0, 1 << 30), before=WRITERS, after=WRITERS)
def test_a_delta_between_any_two_versions_makes_the_new_one(
    edits: list[Edit],
    seed: int,
    before: Callable[[Weights], bytes],
    after: Callable[[Weights], bytes],
) -> None:
    old, new = before(BASE), after(edited(edits, seed))
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "old").write_bytes(old)
        (place / "new").write_bytes(new)

        made = make.make(place / "new", place / "delta", old=place / "old")
        apply.apply_file(place / "old", place / "delta", place / "back")

        assert (place / "back").read_bytes() == new
        assert made.delta_bytes == (place / "delta").stat().st_size <= len(new) + 1024


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(
    edits=EDITS,
    seed=st.integers(0, 1 << 30),
    writer=WRITERS,
    damage=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=5),
)
def test_a_plan_is_all_of_the_new_file_however_odd_the_files(
    edits: list[Edit],
    seed: int,
    writer: Callable[[Weights], bytes],
    damage: list[tuple[float, int]],
) -> None:
    old, new = writer(BASE), bytearray(writer(edited(edits, seed)))
    for place, value in damage:
        new[int(place * (len(new) - 1))] = value
    then, now = delta_graphs.as_bytes(old), delta_graphs.as_bytes(bytes(new))

    plan = planner.tensor_plan(then, now, *tensors.find_both(then, now))

    assert delta_graphs.followed(plan, old, bytes(new)) == bytes(new)
    assert all(segment.length > 0 for segment in plan)
