from pathlib import Path

import pytest

from runtime.bundle import source
from runtime.bundle.index import Batching, Check, Resources, Signature, TensorSpec
from runtime.errors import InvalidError

PYTHON = "name: wear\nkind: python\nentry: score.py\n"
TENSOR = "{name: x, datatype: FP32, shape: [-1, 4]}"
MINIMAL = "name: wear\nkind: onnx\nmodel: model.onnx\n"


def parse(text: str) -> source.Source:
    return source.parse_source(text.encode())


def test_all_that_an_author_may_say_is_read() -> None:
    seen = parse(
        MINIMAL
        + """
entry: src/score.py
check: {inputs: golden/in.npz, outputs: golden/out.npz, rtol: 1e-3, atol: 0, p95_ms: 50}
resources: {memory_mb: 256, cpu: 1.5, timeout_s: 20}
batching: {max_size: 16, max_delay_ms: 2}
sources: ["directory:inbox", "mqtt:sensors/+"]
tags: {task: anomaly}
metadata: {run: "17"}
requirements: src/requirements.txt
card: README.md
description: |
  Two lines
  of text.
"""
    )

    assert seen == source.Source(
        name="wear",
        kind="onnx",
        model="model.onnx",
        entry="src/score.py",
        check=Check("golden/in.npz", "golden/out.npz", rtol=0.001, atol=0.0, p95_ms=50.0),
        resources=Resources(memory_mb=256, cpu=1.5, timeout_s=20.0),
        sources=("directory:inbox", "mqtt:sensors/+"),
        tags={"task": "anomaly"},
        metadata={"run": "17"},
        requirements="src/requirements.txt",
        card="README.md",
        signature=None,
        description="Two lines\nof text.\n",
        providers=(),
        variants=(),
        steps=(),
        outputs={},
        batching=Batching(max_size=16, max_delay_ms=2.0),
        container=None,
    )


def test_a_script_may_be_all_there_is_and_says_its_signature() -> None:
    output = "{name: y, datatype: INT64, shape: []}"
    seen = parse(PYTHON + f"signature: {{inputs: [{TENSOR}], outputs: [{output}]}}")

    assert (seen.kind, seen.model, seen.entry) == ("python", "", "score.py")
    assert seen.signature == Signature(
        inputs=(TensorSpec("x", "FP32", (-1, 4)),), outputs=(TensorSpec("y", "INT64", ()),)
    )


def test_what_is_left_out_has_defaults() -> None:
    seen = parse(MINIMAL)

    assert (seen.check, seen.entry, seen.sources, seen.tags) == (None, None, (), {})
    assert seen.resources == Resources()


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        (MINIMAL + "chekc: {}", "chekc", "did you mean 'check'?"),
        (MINIMAL + "check: {inputs: a.npz, p95: 3}", "check.p95", "did you mean 'p95_ms'?"),
        (MINIMAL + "resources: {gpu: 1}", "resources.gpu", "the keys here are memory_mb, cpu"),
        (MINIMAL + "1: 2", "1", "a key that is text"),
        ("kind: onnx\nmodel: m.onnx", "name", "write name: …"),
        ("name: wear\nmodel: m.onnx", "kind", "write kind: …"),
        ("name: wear\nkind: onnx", "model", "write model: …"),
        ("name: Wear_1\nkind: onnx\nmodel: m.onnx", "name", "use 1 to 63 of a-z, 0-9 and '-'"),
        ("name: 12\nkind: onnx\nmodel: m.onnx", "name", "quote it, as in '12'"),
        ("name: wear\nkind: python\nmodel: m.pkl", "entry", "write entry: score.py"),
        (MINIMAL + "signature: {}", "signature", "read from the ONNX graph"),
        (PYTHON + "signature: [x]", "signature", "keys with values, not list"),
        (PYTHON + "signature: {inputs: [" + TENSOR + "]}", "signature.outputs", "a list"),
        (PYTHON + "signature: {inputs: []}", "signature.inputs", "a list"),
        (PYTHON + "signature: {inputs: [{name: x}]}", "signature.inputs[0].datatype", "write data"),
        (
            PYTHON + "signature: {inputs: [{name: x, datatype: fp23, shape: []}]}",
            "signature.inputs[0].datatype",
            "did you mean FP32?",
        ),
        (
            PYTHON + "signature: {inputs: [{name: x, datatype: FP32}]}",
            "signature.inputs[0].shape",
            "a list of whole numbers",
        ),
        (
            PYTHON + "signature: {inputs: [{name: x, datatype: FP32, shape: [n]}]}",
            "signature.inputs[0].shape[0]",
            "a whole number, not str",
        ),
        (
            PYTHON + "signature: {inputs: [{name: x, datatype: FP32, shape: [-2]}]}",
            "signature.inputs[0].shape",
            "-1 where any fits",
        ),
        (
            PYTHON + "signature: {inputs: [" + TENSOR + ", " + TENSOR + "]}",
            "signature.inputs",
            "its own name",
        ),
        (MINIMAL + "requirements: r.txt", "requirements", "only an entry script"),
        (MINIMAL + "metadata: {n: 1}", "metadata.n", "quote it, as in '1'"),
        (MINIMAL + "card: /README.md", "card", "relative path"),
        ("name: wear\nkind: container\nmodel: m.onnx", "model", "a container has none"),
        ("name: wear\nkind: onxx\nmodel: m.onnx", "kind", "write kind: onnx"),
        ("name: wear\nkind: onnx\nmodel: ../m.onnx", "model", "without '.', '..'"),
        ("name: wear\nkind: onnx\nmodel: /m.onnx", "model", "relative path"),
        (MINIMAL + "entry: run.sh", "entry", "ends in .py"),
        (MINIMAL + "check: {outputs: a.npz}", "check.inputs", "write inputs: …"),
        (MINIMAL + "check: a.npz", "check", "keys with values, not str"),
        (MINIMAL + "check: {inputs: a, rtol: high}", "check.rtol", "a number, not str"),
        (MINIMAL + "check: {inputs: a, rtol: -1}", "check.rtol", "at least 0"),
        (MINIMAL + "check: {inputs: a, rtol: .nan}", "check.rtol", "at most 1e+12"),
        (MINIMAL + "check: {inputs: a, p95_ms: 0}", "check.p95_ms", "more than 0"),
        (MINIMAL + "resources: {memory_mb: 1.5}", "resources.memory_mb", "whole MiB"),
        (MINIMAL + "resources: {cpu: true}", "resources.cpu", "a number, not bool"),
        (MINIMAL + "resources: {timeout_s: 0}", "resources.timeout_s", "more than 0"),
        (MINIMAL + "batching: {max_delay_ms: 1}", "batching.max_size", "write max_size"),
        (MINIMAL + "batching: {max_size: 2.5}", "batching.max_size", "whole rows"),
        (MINIMAL + "batching: {max_size: 8, delay: 1}", "batching.delay", "max_delay_ms"),
        (MINIMAL + "sources: inbox", "sources", "a list of text, not str"),
        (MINIMAL + "sources: [1]", "sources[0]", "text, not int"),
        (MINIMAL + "tags: {year: 2026}", "tags.year", "quote it, as in '2026'"),
        (MINIMAL + "description:", "description", "text, not nothing"),
        ("", "bundle.yaml", "keys with values, not nothing"),
        ("- a", "bundle.yaml", "keys with values, not list"),
        (MINIMAL + "name: again", "bundle.yaml", "write each key once (line 4)"),
        (MINIMAL + "tags: {a: &a x, b: *a}", "bundle.yaml", "write the value out (line 4)"),
        (MINIMAL + "tags: !!python/object:os.system {}", "bundle.yaml", "write a plain value"),
        (MINIMAL + "tags: " + "{a: " * 20 + "}" * 20, "bundle.yaml", "nest at most 16 deep"),
        (MINIMAL + "? [a]\n: b", "bundle.yaml", "write plain keys"),
        (MINIMAL + "tags: {", "bundle.yaml", "write valid YAML (line"),
        (MINIMAL + "description: 2026-99-99", "bundle.yaml", "write valid YAML"),
        (MINIMAL + "# " + "x" * 70_000, "bundle.yaml", "keep data in files beside it"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(text: str, field: str, says: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse(text)

    assert caught.value.field == field
    assert says in str(caught.value)


def test_a_directory_without_bundle_yaml_is_told_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="there is none; write one such as") as caught:
        source.read_source(tmp_path)

    assert source.EXAMPLE in str(caught.value)
    source.parse_source(source.EXAMPLE.encode())
