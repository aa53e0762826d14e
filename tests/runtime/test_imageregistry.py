"""Names of images, and what an image registry says of them: no registry needed."""

import json

import pytest

from runtime.errors import InvalidError
from runtime.imageregistry import challenges, lines, manifests, names
from runtime.imageregistry.errors import ImageAnswerError, PlatformError
from runtime.imageregistry.manifests import Entry, Platform
from runtime.imageregistry.names import ImageName

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("camera@x", "docker.io"),
        ("library/camera@x", "docker.io"),
        ("localhost/camera@x", "localhost"),
        ("registry.example/a/b@x", "registry.example"),
        ("registry.example:5000/a@x", "registry.example:5000"),
    ],
)
def test_the_host_of_an_image_is_what_stands_before_its_path(image: str, host: str) -> None:
    assert names.host(image) == host


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("camera", ImageName("docker.io", "library/camera", "latest")),
        ("team/camera:2.1", ImageName("docker.io", "team/camera", "2.1")),
        ("r.example:5000/a/b:1", ImageName("r.example:5000", "a/b", "1")),
        (f"r.example:5000/a@{DIGEST}", ImageName("r.example:5000", "a", "", DIGEST)),
        (f"r.example/a:1@{DIGEST}", ImageName("r.example", "a", "1", DIGEST)),
    ],
)
def test_a_name_is_taken_apart(text: str, found: ImageName) -> None:
    assert names.parse(text) == found


@pytest.mark.parametrize(
    "text", ["", "UPPER/case", "r.example/", "r.example/a@sha256:12", "r.example/a:", "a b", "a@"]
)
def test_what_is_no_name_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidError, match=r"registry\.example/team/camera"):
        names.parse(text)


def test_a_device_gets_the_best_image_that_runs_on_it() -> None:
    entries = [
        Entry("1", 1, Platform("linux", "arm", "v6")),
        Entry("2", 1, Platform("linux", "arm", "v7")),
        Entry("3", 1, Platform("linux", "arm64")),
        Entry("4", 1, Platform("unknown", "unknown")),
    ]

    def chosen(machine: str) -> str:
        return manifests.choose(entries, manifests.platform_of("linux", machine)).digest

    assert [chosen(each) for each in ("armv7l", "armv6l", "aarch64")] == ["2", "1", "3"]
    with pytest.raises(
        PlatformError, match=r"linux/amd64.*linux/arm/v6, linux/arm/v7, linux/arm64"
    ):
        chosen("x86_64")


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        (b"<html>", "text/html"),
        (b"{", manifests.OCI_MANIFEST),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        (
            json.dumps({"manifests": [{"digest": "../../x", "size": 1}]}).encode(),
            manifests.OCI_INDEX,
        ),
        (json.dumps({"manifests": [{"digest": DIGEST, "size": -1}]}).encode(), manifests.OCI_INDEX),
        (b"[" * 100_000, manifests.OCI_INDEX),
    ],
)
def test_what_no_image_registry_should_say_is_refused(document: bytes, media_type: str) -> None:
    with pytest.raises(ImageAnswerError):
        manifests.read(document, media_type)


def test_of_several_challenges_the_bearers_is_met() -> None:
    told = challenges.read(
        ['Basic realm="x"', 'Bearer realm="https://a.example/t?x=1",service="s",scope="a,b"']
    )

    assert told is not None
    assert told.scheme == "bearer"
    assert told.parameters == {"realm": "https://a.example/t?x=1", "service": "s", "scope": "a,b"}
    assert challenges.read(["Negotiate", ""]) is None


def test_only_this_machine_is_insecure_by_itself() -> None:
    assert [
        lines.is_insecure(each) for each in ("127.0.0.1:5000", "localhost", "r.example:80")
    ] == [
        True,
        True,
        False,
    ]
