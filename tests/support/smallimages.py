"""An image of 10 MB with a shell and Perl, from the tests' base image, and bundles that run it.

    images = smallimages.make(engine, registry, credentials)
    images["1"]      # 127.0.0.1:PORT/small@sha256:…

Images "1", "2" and "3" have their one layer in common and are three all the same.
"""

import fnmatch
import functools
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime.containers.engine import Engine
from runtime.containers.specs import Credentials
from tests.support import engines
from tests.support.imageregistry import ImageRegistry

_PLACES = ("./bin", "./lib", "./lib64", "./usr/lib64", "./tmp")
_NEEDED = (
    *_PLACES,
    "./usr/bin/dash", "./usr/bin/sh", "./usr/bin/sleep", "./usr/bin/cat", "./usr/bin/perl",
    "./usr/lib64/*", "./usr/lib/*/ld-linux*", "./usr/lib/*/libc.so*", "./usr/lib/*/libm.so*",
    "./usr/lib/*/libcrypt.so*", "./usr/lib/*/perl-base/*",
)  # fmt: skip
_SLEEP = (
    *_PLACES, "./usr/bin/sleep",
    "./usr/lib64/*", "./usr/lib/*/ld-linux*", "./usr/lib/*/libc.so*",
)  # fmt: skip
SERVER = (
    "use IO::Socket::INET; $| = 1; my $l = IO::Socket::INET->new(LocalPort => 8080,"
    " Listen => 9, ReuseAddr => 1) or die; print 'serving ', $ENV{WORD}, qq(\\n);"
    " while (my $c = $l->accept) { my $q = <$c>; while (<$c> =~ /\\S/) {}"
    " my $s = $q =~ /sick/ ? '500 no' : '200 ok';"
    " print $c qq(HTTP/1.0 $s\\r\\n\\r\\n$ENV{WORD}); close $c }"
)
"""A program for Perl: answers on 8080 with $WORD, and 500 for paths with `sick` in them."""


def make(
    engine: Engine,
    registry: ImageRegistry,
    credentials: Credentials | None = None,
    versions: Sequence[str] = ("1", "2", "3"),
) -> dict[str, str]:
    """Put images into an image registry; return their names by digest."""
    tar, made = _tar(), {}
    for version in versions:
        name = registry.repository("small")
        told = engine._api.import_image_from_data(
            tar, repository=name, tag=version, changes=[f"ENV IMAGE={version}", "CMD sleep 600"]
        )
        assert '"error"' not in told, told
        digest = engine.images.push(f"{name}:{version}", credentials, lambda _line: None)
        engine.images.remove(f"{name}:{version}")
        made[version] = f"{name}@{digest}"
    return made


def write(
    directory: Path,
    *,
    name: str,
    text: str = "",
    top: str = "",
    trial_s: float = 0.5,
    image: str,
) -> Path:
    """Write a bundle with one container, of which the text says more."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [f"  {line}" for line in [f"image: {image}", "stop_s: 0", *text.splitlines()]]
    head = f"name: {name}\nkind: container\ntrial_s: {trial_s}\n{top}container:\n"
    (directory / "bundle.yaml").write_text(head + "\n".join(lines) + "\n")
    return directory


def shell(script: str) -> str:
    """Return the line that has a shell run something."""
    return f"command: [sh, -c, {json.dumps(script)}]"


def server(word: str) -> str:
    """Return the lines that have a container answer with a word on port 8080."""
    return f"command: [perl, -e, {json.dumps(SERVER)}]\nenvironment: {{WORD: {word}}}"


def sleep_layer() -> bytes:
    """Return a layer with the program `sleep` and what it needs: 2 MB, for ociimages.put."""
    return _tar(_SLEEP)


@functools.cache
def _tar(needed: Sequence[str] = _NEEDED) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(engines.base_image()) as base, tarfile.open(fileobj=packed, mode="w") as own:
        for member in _members(base, needed):
            own.addfile(member, base.extractfile(member) if member.isreg() else None)
    return packed.getvalue()


def _members(base: tarfile.TarFile, needed: Sequence[str]) -> Iterator[tarfile.TarInfo]:
    for member in base:
        if any(fnmatch.fnmatchcase(member.name, pattern) for pattern in needed):
            yield member
