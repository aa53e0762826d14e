"""Images that a bundle names by tag: their digests are asked of a real image registry."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.cli import pinning
from runtime.bundle.build import build
from runtime.errors import InvalidError
from tests.support import command_line, imageregistry, ociimages, registries, smallimages
from tests.support.imageregistry import ImageRegistry
from tests.support.ociimages import layer


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageRegistry]:
    with imageregistry.serving(tmp_path_factory.mktemp("images")) as made:
        yield made


def bundle(directory: Path, image: str) -> Path:
    return smallimages.write(directory / "bundle", name="camera", image=image)


def test_a_push_writes_down_the_digest_and_the_tag_and_a_tag_that_moved_makes_a_version(
    images: ImageRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = images.repository("camera")
    first = ociimages.put(images, "camera", [layer("app", 1000)], tag="2.1")
    source = bundle(tmp_path, f"{name}:2.1")
    with (
        registries.running(tmp_path / "data") as registry,
        command_line.logged_in(registry, tmp_path, monkeypatch, capsys) as packhorse,
    ):
        refused = packhorse("models", "push", source, "--no-resolve")
        assert refused.code != 0
        assert "a tag may be another image tomorrow" in refused.err

        pushed = packhorse("models", "push", source)
        assert pushed.out.split() == ["camera:1"]
        assert f"{name}:2.1 is {first.index} (linux/amd64, linux/arm64)" in pushed.err
        assert packhorse("models", "push", source).out.split() == ["camera:1"], "nothing moved"
        ociimages.put(images, "camera", [layer("app", 1000, seed=2)], tag="2.1")
        assert packhorse("models", "push", source).out.split() == ["camera:2"]

    group = build(bundle(tmp_path, f"{name}@{first.index}")).index.container
    assert group is not None
    assert group.containers[0].tag == ""


def test_what_stands_for_a_tag_is_its_index_so_that_each_machine_gets_its_own(
    images: ImageRegistry, tmp_path: Path
) -> None:
    name = images.repository("two")
    put = ociimages.put(images, "two", [layer("app", 1000)], tag="latest")

    group = build(bundle(tmp_path, name), pin=pinning.pin).index.container

    assert group is not None
    each = group.containers[0]
    assert (each.image, each.tag) == (f"{name}@{put.index}", name)


def test_a_tag_that_does_not_lead_to_an_image_is_refused_with_the_field_and_what_to_do(
    images: ImageRegistry, tmp_path: Path
) -> None:
    ociimages.put(images, "other", [layer("app", 1000)], tag="1", systems="windows")

    for image, fix in {
        images.repository("nobody:1"): "has none: push it there first",
        images.repository("other:1"): "devices run Linux, and it is for windows/amd64",
        images.repository("UPPER:1"): "write it as in",
    }.items():
        with pytest.raises(InvalidError, match=fix) as caught:
            build(bundle(tmp_path, image), pin=pinning.pin)
        assert caught.value.field == "containers.main.image"


def test_a_tag_behind_a_password_needs_dockers_own_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = imageregistry.CREDENTIALS
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with imageregistry.serving(tmp_path, guarded=True) as guarded:
        put = ociimages.put(guarded, "closed", [layer("app", 1000)], tag="1", login=known)
        source = bundle(tmp_path, guarded.repository("closed:1"))
        with pytest.raises(InvalidError, match="docker login"):
            build(source, pin=pinning.pin)

        imageregistry.log_in(tmp_path / "docker", guarded)

        group = build(source, pin=pinning.pin).index.container
        assert group is not None
        assert group.containers[0].image == guarded.repository(f"closed@{put.index}")
