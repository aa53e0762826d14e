"""What goes into an image, decided without an engine."""

import io
import json
import re
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.hosting.errors import BuildError, UnreachableError
from cloud.images import contexts, layers, packages, platforms, recipe
from cloud.images.layers import Entry
from cloud.images.packages import Package
from cloud.images.platforms import Platform
from cloud.images.recipe import Recipe

DEBIAN = Platform((3, 11), "3.11.2", "x86_64", "glibc", (2, 36))
OLD_ARM = Platform((3, 10), "3.10.12", "aarch64", "glibc", (2, 35))
ALPINE = Platform((3, 12), "3.12.1", "x86_64", "musl", (1, 2))


@pytest.mark.parametrize(
    ("platform", "taken", "refused"),
    [
        (DEBIAN, "manylinux_2_28_x86_64", "manylinux_2_39_x86_64"),
        (DEBIAN, "manylinux2014_x86_64", "manylinux2014_aarch64"),
        (OLD_ARM, "manylinux_2_17_aarch64", "manylinux_2_36_aarch64"),
        (ALPINE, "musllinux_1_1_x86_64", "manylinux_2_17_x86_64"),
    ],
)
def test_wheels_are_taken_that_run_with_the_image_s_c_library(
    platform: Platform, taken: str, refused: str
) -> None:
    tags = platforms.platform_tags(platform)

    assert taken in tags
    assert refused not in tags
    assert f"--platform={taken}" in platforms.pip_options(platform)


def test_markers_are_those_of_the_image_and_not_of_this_machine() -> None:
    asked = (
        "tomli>=2; python_version < '3.11'",
        "one; platform_machine == 'aarch64'",
        "two; extra == 'serve'",
        "three; sys_platform == 'win32'",
    )

    assert platforms.applying(asked, OLD_ARM) == ("one", "tomli>=2")
    assert platforms.applying(asked, DEBIAN, "serve") == ("two",)


def test_what_pip_left_out_because_of_its_own_python_is_found_lacking() -> None:
    found = (
        Package("aiohttp", "3.0", requires=("async-timeout>=4; python_version < '3.11'", "idna")),
        Package("idna", "3.1"),
        Package("cuda", "1.0", requires=("cudnn>=9; extra == 'cudnn'",), extras=("cudnn",)),
    )

    assert packages.lacking(found, DEBIAN) == ("cudnn>=9",)
    assert packages.lacking(found, OLD_ARM) == ("async-timeout>=4", "cudnn>=9")


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        (
            (
                "ERROR: Could not find a version that satisfies the requirement numpy==1.0 (from"
                " versions: 1.3)\nERROR: No matching distribution found for numpy==1.0"
            ),
            BuildError,
            r"no wheel of numpy==1\.0 for Python 3\.11 on x86_64, glibc 2\.36: .*wheels/",
        ),
        (
            (
                "WARNING: Retrying ... Failed to establish a new connection: [Errno -2]\n"
                "ERROR: No matching distribution found for numpy"
            ),
            UnreachableError,
            "package index does not answer",
        ),
        ("/usr/bin/python: No module named pip", BuildError, "has no pip: .*ensurepip"),
        ("ERROR: Cannot install a and b because these conflict", BuildError, "a and b because"),
    ],
)
def test_what_pip_says_becomes_what_to_do(said: str, kind: type[Exception], told: str) -> None:
    failure = packages._failure(said, DEBIAN)

    assert type(failure) is kind
    assert re.search(told, str(failure))


def tar_of(entries: list[Entry]) -> bytes:
    packed = io.BytesIO()
    layers.pack(sorted(entries, key=lambda each: each.path), packed)
    return packed.getvalue()


def test_a_layer_is_the_same_bytes_whenever_and_in_whatever_order_it_is_made(
    tmp_path: Path,
) -> None:
    entries = [
        layers.of_bytes("bundle/model.onnx", b"model"),
        layers.of_bytes("bundle/a/b.txt", b"text"),
        Entry("models/m/1", link="/bundle"),
        Entry("config", owner=65532),
    ]

    first = layers.write(tmp_path / "1.tar", entries)
    again = layers.write(tmp_path / "2.tar", reversed(entries))

    assert first.sha256 == again.sha256
    with tarfile.open(first.path) as tar:
        members = {each.name: each for each in tar}
    assert {each.mtime for each in members.values()} == {0}
    assert members["bundle/model.onnx"].mode == 0o444
    assert members["models/m/1"].linkname == "/bundle"
    assert (members["config"].uid, members["bundle"].uid) == (65532, 0)


def test_a_streamed_context_is_the_tar_of_its_files(tmp_path: Path) -> None:
    layer = layers.write(tmp_path / "1.tar", [layers.of_bytes("a", b"x" * 700)])
    named = contexts.named([layer])
    made = Recipe("base:1", tuple(named), {"a": "b"}, ("serve",))

    streamed = io.BytesIO(b"".join(contexts.stream(made, named)))

    with tarfile.open(fileobj=streamed) as tar:
        read = {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]
    assert read == {
        "Dockerfile": recipe.dockerfile(made).encode(),
        next(iter(named)): layer.path.read_bytes(),
    }


@given(st.text(max_size=600))
def test_no_label_breaks_out_of_its_line_or_has_something_replaced(text: str) -> None:
    made = recipe.dockerfile(Recipe("base:1", (), {"said": f"x{text}"}, ("serve",)))

    line = made.splitlines()[-1]
    assert line.startswith('LABEL said="x')
    inner = re.sub(r'\\[\\"$]', "", line.removeprefix('LABEL said="').removesuffix('"'))
    assert not set('"$') & set(inner)
    assert not inner.endswith("\\")
    assert made.count("\n") == len(made.splitlines())


def test_an_image_runs_nothing_while_it_is_built_and_is_nobody_when_it_runs() -> None:
    text = recipe.dockerfile(Recipe("base:1", ("a.tar",), {}, recipe.serve(("pickle",))))

    assert not re.search(r"^(RUN|COPY|ARG)", text, re.MULTILINE)
    assert "USER 65532:65532" in text
    assert "STOPSIGNAL SIGTERM" in text
    command = next(line for line in text.splitlines() if line.startswith("CMD "))
    assert json.loads(command.removeprefix("CMD "))[-2:] == ["--allow", "pickle"]
