import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.bundle import ensemble
from runtime.bundle.ensemble import Node
from runtime.bundle.signature import DataType, Signature, TensorSpec
from runtime.errors import InvalidError


def spec(name: str, shape: tuple[int, ...] = (-1, 4), datatype: DataType = "FP32") -> TensorSpec:
    return TensorSpec(name, datatype, shape)


def node(
    name: str,
    takes: tuple[TensorSpec, ...],
    gives: tuple[TensorSpec, ...],
    **inputs: str,
) -> Node:
    return Node(name, inputs, Signature(takes, gives))


DETECT = node("detect", (spec("image"),), (spec("crop"), spec("score", (-1, 1))))
READ = node("read", (spec("crop"),), (spec("text", (-1,), "BYTES"),), crop="detect.crop")


def test_outputs_feed_inputs_and_the_rest_is_the_ensembles() -> None:
    wiring = ensemble.wire([READ, DETECT], {})

    assert wiring.levels == (("detect",), ("read",))
    assert wiring.feeds == {"detect": {"image": "image"}, "read": {"crop": "detect.crop"}}
    assert wiring.outputs == {"text": "read.text", "score": "detect.score"}
    assert wiring.signature == Signature(
        (spec("image"),), (spec("text", (-1,), "BYTES"), spec("score", (-1, 1)))
    )


def test_steps_that_do_not_need_one_another_share_a_level() -> None:
    left = node("left", (spec("x"),), (spec("a"),))
    right = node("right", (spec("x"),), (spec("b"),))
    join = node("join", (spec("a"), spec("b")), (spec("y"),), a="left.a", b="right.b")

    wiring = ensemble.wire([join, left, right], {})

    assert wiring.levels == (("left", "right"), ("join",))
    assert [each.name for each in wiring.signature.inputs] == ["x"]


def test_an_input_that_two_steps_take_has_the_narrower_shape() -> None:
    left = node("left", (spec("x", (-1, 4)),), (spec("a"),))
    right = node("right", (spec("x", (8, -1)),), (spec("b"),))

    assert ensemble.wire([left, right], {}).signature.inputs == (spec("x", (8, 4)),)


def test_listed_outputs_are_given_under_their_new_names() -> None:
    wiring = ensemble.wire([DETECT, READ], {"plate": "read.text"})

    assert wiring.signature.outputs == (spec("plate", (-1,), "BYTES"),)


def test_a_name_with_a_dot_is_an_input_unless_it_names_a_step() -> None:
    odd = node("odd", (spec("serving.x"),), (spec("y"),))

    assert ensemble.wire([odd], {}).signature.inputs == (spec("serving.x"),)


@pytest.mark.parametrize(
    ("nodes", "outputs", "field", "fix"),
    [
        ([], {}, "ensemble.steps", "give 1 to 32"),
        ([DETECT, DETECT], {}, "ensemble.steps", "a name of its own"),
        (
            [node("a", (spec("x"),), (spec("y"),), z="x")],
            {},
            r"ensemble.steps\[a\].inputs.z",
            "its inputs are x",
        ),
        (
            [DETECT, node("read", (spec("crop"),), (spec("t"),), crop="detect.cropped")],
            {},
            r"ensemble.steps\[read\].inputs.crop",
            "step detect gives crop, score",
        ),
        (
            [DETECT, node("read", (spec("crop"),), (spec("t"),), crop="detct.crop")],
            {},
            r"ensemble.steps\[read\].inputs.crop",
            "the steps are detect, read",
        ),
        (
            [DETECT, node("r", (spec("c", (-1, 4), "FP16"),), (spec("t"),), c="detect.crop")],
            {},
            r"ensemble.steps\[r\].inputs.c",
            "it is FP32, and FP16 is wanted",
        ),
        (
            [DETECT, node("r", (spec("c", (-1, 5)),), (spec("t"),), c="detect.crop")],
            {},
            r"ensemble.steps\[r\].inputs.c",
            r"its shape is \[-1, 4\], and \[-1, 5\] is wanted",
        ),
        (
            [
                node("a", (spec("x"),), (spec("y"),), x="b.y"),
                node("b", (spec("x"),), (spec("y"),), x="a.y"),
            ],
            {"y": "a.y"},
            "ensemble.steps",
            "cut the circle",
        ),
        (
            [node("a", (spec("x"),), (spec("y"),)), node("b", (spec("x"),), (spec("y"),))],
            {},
            "ensemble.outputs",
            "several steps give it",
        ),
        ([DETECT], {"y": "detect.nothing"}, "ensemble.outputs.y", "step detect gives"),
        ([DETECT], {"y": "nothing"}, "ensemble.outputs.y", "write STEP.OUTPUT"),
        (
            [node("a", (spec("b"),), (spec("y"),)), node("b", (spec("x"),), (spec("z"),))],
            {},
            r"ensemble.steps\[a\].inputs.b",
            "write b.OUTPUT",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    nodes: list[Node], outputs: dict[str, str], field: str, fix: str
) -> None:
    with pytest.raises(InvalidError, match=f"^{field}: .*{fix}"):
        ensemble.wire(nodes, outputs)


@st.composite
def chains(draw: st.DrawFn) -> list[Node]:
    """Steps that each take outputs of earlier ones, in any order."""
    count = draw(st.integers(1, 8))
    made = []
    for number in range(count):
        sources = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        takes = tuple(spec(f"in{other}") for other in sources) or (spec("x"),)
        inputs = {f"in{other}": f"s{other}.out{other}" for other in sources}
        made.append(Node(f"s{number}", inputs, Signature(takes, (spec(f"out{number}"),))))
    return draw(st.permutations(made))


@given(chains())
def test_every_step_runs_once_and_after_all_that_it_needs(nodes: list[Node]) -> None:
    wiring = ensemble.wire(nodes, {"y": f"{nodes[0].name}.{nodes[0].signature.outputs[0].name}"})

    done: set[str] = set()
    for level in wiring.levels:
        for step in level:
            needed = {s.partition(".")[0] for s in wiring.feeds[step].values() if "." in s}
            assert needed <= done
        done.update(level)
    assert sorted(done) == sorted(each.name for each in nodes)
