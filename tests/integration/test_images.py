"""Images made by a real engine: what is in them, what is made once, what travels."""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.hosting.errors import BuildError, RefusedError
from cloud.images import content as contents
from cloud.images import recipe
from cloud.images.builder import Builder, Publishing
from cloud.images.content import Content
from runtime.bundle import build
from runtime.containers.engine import Engine
from runtime.containers.specs import ContainerSpec
from runtime.errors import IntegrityError
from tests.support import bundle_sources, engines, imageregistry, standins
from tests.support.imageregistry import ImageRegistry

pytestmark = pytest.mark.timeout(600)
"""On a machine of its own the first image of all takes a minute; then they take seconds."""

LARGE_BYTES = 400_000
LOOK = """
import importlib.metadata, json, os, pathlib, runtime.serving, onnxruntime, numpy, grpc, aiohttp
print(json.dumps({
    "version": importlib.metadata.version("packhorse"),
    "user": os.getuid(),
    "model": sorted(os.listdir("/models/scale/3")),
    "compiled": runtime.serving.__cached__.startswith("/opt/packhorse/app"),
    "wheel": pathlib.Path("/models/scale/3/.wheels/tiny-1.0-py3-none-any/tiny.py").exists(),
}))
"""


def bundle(directory: Path, *, factor: float = 2.0, version: int = 3, **more: bytes) -> Content:
    """Return a bundle with a large file that has nothing to do with `factor`."""
    bundle_sources.write_bundle(directory, factor=factor)
    (directory / "table.bin").write_bytes(b"\x07" * LARGE_BYTES)
    for name, data in more.items():
        path = directory / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return contents.of_built(build.build(directory), version)


def wheel(name: str = "tiny", version: str = "1.0") -> bytes:
    """Return a wheel of one module."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{name}.py", "ANSWER = 42\n")
        info = f"{name}-{version}.dist-info"
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return packed.getvalue()


SCRIPTED = {
    "bundle_DOT_yaml": b"name: scale\nmodel: model.onnx\nkind: onnx\nentry: score.py\n"
    b"requirements: requirements.txt\n",
    "score_DOT_py": b"def run(inputs):\n    return inputs\n",
}


@pytest.fixture(scope="module")
def image_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageRegistry]:
    with imageregistry.serving(tmp_path_factory.mktemp("images"), guarded=True) as registry:
        yield registry


def said(engine: Engine, image: str, *command: str) -> str:
    """Return what a command says in a container of an image, with nothing to write but /tmp."""
    spec = ContainerSpec(
        image=image, entrypoint=("python3",), command=command, tmpfs={"/tmp": "size=16m"}
    )
    container = engine.create("", spec)
    try:
        engine.start(container)
        code = engine.wait(container, timeout_s=60)
        lines = engine.tail(container, 20)
    finally:
        engine.remove(container)
    assert code == 0, lines
    return lines[-1]


def test_an_image_has_the_bundle_its_packages_and_our_code_and_runs_as_nobody_on_a_read_only_root(
    tmp_path: Path, engine: Engine, builder: Builder
) -> None:
    content = bundle(tmp_path / "b", **{"wheels__tiny-1.0-py3-none-any_DOT_whl": wheel()})

    image = builder.build(content, base_image=engines.BASE)

    found = json.loads(said(engine, image.reference, "-c", LOOK))
    assert found == {
        "version": "0.1.0",
        "user": 65532,
        "model": [".index.json", ".wheels", "bundle.yaml", "model.onnx", "table.bin", "wheels"],
        "compiled": True,
        "wheel": True,
    }


def test_an_image_says_what_is_in_it(tmp_path: Path, engine: Engine, builder: Builder) -> None:
    content = bundle(tmp_path / "b")
    image = builder.build(content, base_image=engines.BASE)

    seen = engine.images.find(image.reference)
    assert seen is not None
    assert seen.labels["packhorse.bundle"] == content.digest == image.bundle
    assert (
        seen.labels["packhorse.model"] == seen.labels["org.opencontainers.image.title"] == "scale"
    )
    assert seen.labels["packhorse.version"] == "3"
    read = f"print(open('/{recipe.SBOM}').read().replace(chr(10), ''))"
    document = json.loads(said(engine, image.reference, "-c", read))
    assert document == json.loads(builder.sbom(content, base_image=engines.BASE))
    parts = {each["bom-ref"]: each for each in document["components"]}
    assert any(ref.startswith("pkg:pypi/onnxruntime@") for ref in parts)
    model = next(each for each in content.index.files if each.path == "model.onnx")
    assert parts["file:model.onnx"]["type"] == "machine-learning-model"
    assert parts["file:model.onnx"]["hashes"] == [{"alg": "SHA-256", "content": model.sha256}]


def test_the_same_bundle_is_not_built_twice(
    tmp_path: Path, builder: Builder, gateway_image: str
) -> None:
    first = builder.build(bundle(tmp_path / "b"), base_image=engines.BASE)
    again = builder.build(bundle(tmp_path / "c"), base_image=engines.BASE)

    assert again.reused
    assert again.digest == first.digest
    assert builder.gateway(base_image=engines.BASE).reference == gateway_image


def test_what_is_built_on_an_image_of_ours_is_not_taken_for_it(
    engine: Engine, builder: Builder, gateway_image: str
) -> None:
    before = engine.images.find(gateway_image)
    assert before is not None
    derived = engine.images.find(standins.make(engine, gateway_image))
    assert derived is not None
    assert derived.labels["packhorse.input"] == before.labels["packhorse.input"]

    again = builder.gateway(base_image=engines.BASE)

    found = engine.images.find(again.reference)
    assert found is not None
    assert found.id == before.id != derived.id


def test_a_new_version_pushes_only_what_is_new_in_it_with_credentials_that_nobody_is_told(
    tmp_path: Path, engine: Engine, image_registry: ImageRegistry
) -> None:
    told: list[str] = []
    publishing = Publishing(image_registry.repository("team"), imageregistry.CREDENTIALS)
    builder = Builder(engine, engines.CACHE / "images", publishing=publishing)
    content = bundle(tmp_path / "b")
    first = builder.build(content, base_image=engines.BASE, progress=told.append)
    there = image_registry.blobs()

    second = builder.build(bundle(tmp_path / "c", factor=3, version=4), base_image=engines.BASE)

    new = {name: size for name, size in image_registry.blobs().items() if name not in there}
    assert sum(new.values()) < 30_000, "layers of small files and of the index, configuration"
    assert sum(there.values()) > 10 * LARGE_BYTES
    assert second.reference == f"{image_registry.repository('team/scale')}@{second.digest}"
    assert second.digest != first.digest
    engine.images.remove(second.reference)
    engine.images.pull(second.reference, imageregistry.CREDENTIALS, told.append)
    assert engine.images.find(second.reference) is not None
    assert imageregistry.CREDENTIALS.password not in "".join([*told, repr(publishing)])


def test_an_image_registry_that_refuses_us_is_named_with_what_to_do(
    tmp_path: Path, engine: Engine, image_registry: ImageRegistry
) -> None:
    publishing = Publishing(image_registry.repository("team"))
    stranger = Builder(engine, engines.CACHE / "images", publishing=publishing)

    with pytest.raises(RefusedError, match=r"no basic auth credentials.*docker login"):
        stranger.build(bundle(tmp_path / "b"), base_image=engines.BASE)


def test_requirements_become_a_layer_and_the_bundle_s_own_wheels_are_not_fetched(
    tmp_path: Path, engine: Engine, builder: Builder
) -> None:
    own = {"wheels__tiny-1.0-py3-none-any_DOT_whl": wheel()}
    listed = b"tiny\nsortedcontainers>=2\n"
    content = bundle(tmp_path / "b", **SCRIPTED, **own, requirements_DOT_txt=listed)

    image = builder.build(content, base_image=engines.BASE)

    where = said(engine, image.reference, "-c", "import sortedcontainers as s; print(s.__file__)")
    assert where.startswith(f"/{recipe.EXTRA}/")
    refs = {
        each["bom-ref"]
        for each in json.loads(builder.sbom(content, base_image=engines.BASE))["components"]
    }
    assert "pkg:pypi/tiny@1.0" in refs


def test_a_requirement_without_a_wheel_is_named_with_what_to_do(
    tmp_path: Path, builder: Builder
) -> None:
    content = bundle(tmp_path / "b", **SCRIPTED, requirements_DOT_txt=b"numpy==1.0\n")

    with pytest.raises(BuildError, match=r"no wheel of numpy==1.0 for Python 3\.\d+ on .*wheels/"):
        builder.build(content, base_image=engines.BASE)


def test_a_base_image_that_is_nowhere_is_named_with_what_to_do(
    tmp_path: Path, builder: Builder, image_registry: ImageRegistry
) -> None:
    nowhere = image_registry.repository("nobody/has:this")

    with pytest.raises(
        BuildError, match=r"nobody/has:this is not here and cannot be pulled .*--base-image"
    ):
        builder.build(bundle(tmp_path / "b"), base_image=nowhere)


def test_a_base_image_without_python_is_refused(
    tmp_path: Path, engine: Engine, builder: Builder
) -> None:
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w") as tar:
        text = b"FROM scratch\nLABEL nothing=here\n"
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    engine.images.build([empty.getvalue()], "packhorse-test/empty:1", lambda _line: None)

    with pytest.raises(BuildError, match=r"cannot run python3 .*--base-image"):
        builder.build(bundle(tmp_path / "b"), base_image="packhorse-test/empty:1")


def test_a_context_on_disk_gives_the_same_layers_anywhere(
    tmp_path: Path, engine: Engine, builder: Builder
) -> None:
    content = bundle(tmp_path / "b")
    image = builder.build(content, base_image=engines.BASE)

    builder.context(tmp_path / "context", content, base_image=engines.BASE)

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(tmp_path / "context", ".")
    engine.images.build([packed.getvalue()], "packhorse-test/context:1", lambda _line: None)
    built, whole = (
        engine.images.find(image.reference),
        engine.images.find("packhorse-test/context:1"),
    )
    assert built is not None
    assert whole is not None
    # The floor's own bill of materials is a layer of both.
    assert whole.layers == built.layers
    assert json.loads((tmp_path / "context" / "sbom.cdx.json").read_text())["metadata"]
    with pytest.raises(BuildError, match="name a new directory"):
        builder.context(tmp_path / "context", content, base_image=engines.BASE)


def test_a_file_that_is_not_what_the_index_says_is_never_built(
    tmp_path: Path, builder: Builder
) -> None:
    content = bundle(tmp_path / "b", version=5)
    (tmp_path / "b" / "table.bin").write_bytes(b"\x08" * LARGE_BYTES)

    with pytest.raises(IntegrityError, match=r"table\.bin: wanted"):
        builder.build(content, base_image=engines.BASE)
