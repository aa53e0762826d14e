"""The command line, for tests of files that have a `registry`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import command_line
from tests.support.command_line import Run
from tests.support.registries import Registry


@pytest.fixture
def run(
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Run]:
    """Run `packhorse` in this process, against a registry behind TLS, as one who has logged in."""
    with command_line.logged_in(registry, tmp_path, monkeypatch, capsys) as packhorse:
        yield packhorse
