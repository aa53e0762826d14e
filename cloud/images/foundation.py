"""What an image is built on: found or fetched, pinned by id, and asked which Python it has."""

import json
from dataclasses import dataclass

from cloud.hosting.errors import BuildError
from cloud.images.platforms import MIN_PYTHON, Platform
from runtime.containers.engine import Engine
from runtime.containers.errors import EngineRefusedError, EngineUnreachableError
from runtime.containers.images import Progress
from runtime.containers.specs import ContainerSpec, Credentials, ImageSeen

_PATIENCE_S = 60.0
_CHOOSE = (
    "choose another with --base-image: any image with Python 3.10 or newer that this engine has or"
    " can pull"
)
_ASK = """
import json, os, platform, sys
libc, version = platform.libc_ver()
if not libc:
    try:
        libc, version = os.confstr("CS_GNU_LIBC_VERSION").split()
    except (ValueError, OSError, AttributeError):
        import glob, re, subprocess
        loader = glob.glob("/lib/ld-musl-*")
        said = subprocess.run(loader[:1], capture_output=True, text=True).stderr if loader else ""
        libc, version = "musl", (re.search(r"Version (\\d+\\.\\d+)", said) or ["", "1.1"])[1]
print(json.dumps({
    "implementation": sys.implementation.name, "python": sys.version_info[:2],
    "full": platform.python_version(), "machine": platform.machine(),
    "libc": libc, "libc_version": version,
}))
"""


@dataclass(frozen=True)
class Base:
    """An image that is here, and the Python in it."""

    reference: str
    """As it was asked for."""
    id: str
    digest: str
    """NAME@sha256:… if it came from an image registry, else its id."""
    platform: Platform

    @property
    def pullable(self) -> str:
        """Return how a Dockerfile names it: by digest where that is known elsewhere too."""
        return self.digest if "@" in self.digest else self.reference


def obtain(
    engine: Engine, reference: str, credentials: Credentials | None, progress: Progress
) -> Base:
    """Return a base image; fetch it if it is not here. Raises BuildError saying what to do."""
    found = engine.images.find(reference)
    if found is None:
        progress(f"pulling base image {reference}")
        try:
            engine.images.pull(reference, credentials, progress)
        except EngineRefusedError as error:
            raise BuildError(
                f"base image {reference} is not here and cannot be pulled ({error.said}): {_CHOOSE}"
            ) from error
        found = engine.images.find(reference)
    if found is None:
        raise BuildError(f"base image {reference} was pulled and is not here: {_CHOOSE}")
    return Base(reference, found.id, (*found.digests, found.id)[0], _ask(engine, reference, found))


def _ask(engine: Engine, reference: str, image: ImageSeen) -> Platform:
    """Run the image's Python once, without a network, to learn what wheels it takes."""
    spec = ContainerSpec(
        image=image.id, entrypoint=("python3",), command=("-I", "-c", _ASK), user="65532:65532"
    )
    container = engine.create("", spec)
    try:
        engine.start(container)
        code = engine.wait(container, timeout_s=_PATIENCE_S)
        said = engine.tail(container, 5)
    except EngineRefusedError as error:
        raise BuildError(
            f"base image {reference} cannot run python3 ({error.said[:200]}): {_CHOOSE}"
        ) from error
    except EngineUnreachableError as error:
        raise BuildError(f"base image {reference} does not answer: {error}: {_CHOOSE}") from error
    finally:
        engine.remove(container)
    if code != 0 or not said:
        raise BuildError(
            f"base image {reference}: its python3 ended with {code}"
            f" ({' '.join(said)[:200]}): {_CHOOSE}"
        )
    return _platform(reference, said[-1])


def _platform(reference: str, said: str) -> Platform:
    told = json.loads(said)
    major, _, minor = str(told["libc_version"]).partition(".")
    platform = Platform(
        python=(told["python"][0], told["python"][1]),
        full_version=told["full"],
        machine=told["machine"],
        libc="musl" if told["libc"] == "musl" else "glibc",
        libc_version=(int(major), int(minor.partition(".")[0])),
    )
    if told["implementation"] != "cpython" or platform.python < MIN_PYTHON:
        raise BuildError(
            f"base image {reference} has {told['implementation']} {told['full']}: {_CHOOSE}"
        )
    return platform
