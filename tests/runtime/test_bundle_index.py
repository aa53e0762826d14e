from typing import Any

import msgspec
import pytest

from runtime import digests, errors
from runtime.bundle import index
from runtime.bundle.index import Check, FileEntry, Index, Signature, TensorSpec
from runtime.digests import Digest

DIGEST = Digest("0" * 64)


def make(**changes: Any) -> Index:
    """Return a small valid index, changed."""
    base = Index(
        format=1,
        name="digits",
        kind="onnx",
        model="model.onnx",
        files=(
            FileEntry("bundle.yaml", 10, DIGEST),
            FileEntry("model.onnx", 100, DIGEST),
            FileEntry("golden/in.npz", 5, DIGEST),
        ),
        signature=Signature(
            (TensorSpec("x", "FP32", (-1, 64)),), (TensorSpec("label", "INT64", (-1,)),)
        ),
        check=Check(inputs="golden/in.npz"),
    )
    return msgspec.structs.replace(base, **changes)


def test_an_index_survives_its_bytes_and_keeps_its_identity() -> None:
    original = make()

    assert index.decode(index.encode(original)) == original
    assert index.identity(original) == digests.of_bytes(index.encode(original))


def test_the_identity_is_the_same_on_every_machine() -> None:
    """A golden value: a change here is a new bundle format."""
    assert index.identity(make()) == (
        "bcbe926003ccb1ef946544bc4d61855008b15dbfda365fa88214536147c0c728"
    )


def test_any_change_of_content_changes_the_identity() -> None:
    other = make(files=(*make().files[:2], FileEntry("golden/in.npz", 5, Digest("1" * 64))))

    assert index.identity(other) != index.identity(make())


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": "missing.onnx"}, "model"),
        ({"entry": "missing.py"}, "entry"),
        ({"check": Check(inputs="missing.npz")}, "check.inputs"),
        ({"check": Check(inputs="golden/in.npz", outputs="no.npz")}, "check.outputs"),
        ({"files": (*make().files, FileEntry("model.onnx", 1, DIGEST))}, "files"),
        ({"files": (*make().files, FileEntry("../x", 1, DIGEST))}, "files.path"),
        ({"files": (*make().files, FileEntry("x", -1, DIGEST))}, "files[x].size"),
        ({"files": (*make().files, FileEntry(".index.json", 1, DIGEST))}, "files.path"),
        ({"files": (*make().files, FileEntry(".wheels/a.py", 1, DIGEST))}, "files.path"),
        ({"files": (*make().files, FileEntry("a" * 256, 1, DIGEST))}, "files.path"),
        ({"files": (*make().files, FileEntry("a/" * 520 + "a", 1, DIGEST))}, "files.path"),
        ({"files": (*make().files, FileEntry("/x", 1, DIGEST))}, "files.path"),
        ({"files": tuple(FileEntry(str(n), 1, DIGEST) for n in range(10_001))}, "files"),
        ({"files": (FileEntry("x", 1, DIGEST),) * 9_000}, "files"),
        ({"kind": "python"}, "entry"),
        ({"model": ""}, "model"),
        ({"card": "missing.md"}, "card"),
        ({"requirements": ("numpy",) * 1001}, "requirements"),
        ({"files": (*make().files, FileEntry("x", 1, Digest("zz")))}, "files[x].sha256"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused_by_field(
    changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        index.decode(index.encode(make(**changes)))

    assert caught.value.field == field


def test_an_index_of_a_later_format_says_to_upgrade() -> None:
    with pytest.raises(errors.InvalidError, match="upgrade"):
        index.decode(b'{"format": 2, "kind": "hologram"}')


def test_a_kind_of_a_later_version_says_to_upgrade() -> None:
    data = index.encode(make()).replace(b'"kind":"onnx"', b'"kind":"hologram"')

    with pytest.raises(errors.InvalidError, match=r"^kind: 'hologram' .*upgrade"):
        index.decode(data)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"{}", b'{"format":"1"}'])
def test_bytes_that_are_no_index_are_refused(data: bytes) -> None:
    with pytest.raises(errors.InvalidError):
        index.decode(data)
