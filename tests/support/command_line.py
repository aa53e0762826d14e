"""`packhorse` run in this process, against a registry behind TLS, as somebody who has logged in."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloud.cli import main
from tests.support import registries
from tests.support.registries import Registry


@dataclass
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What it printed for scripts."""
        assert self.code == 0, self.err
        return json.loads(self.out)


Run = Callable[..., Ran]


@contextlib.contextmanager
def logged_in(
    registry: Registry,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Run]:
    """Give what runs `packhorse` with these arguments."""
    with registries.listening(registry) as url:
        yield runner(url, registry, place, monkeypatch, capsys)


def runner(
    url: str,
    registry: Registry,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Return the same for a registry that listens at this URL already."""
    ca = place / "ca.pem"
    ca.write_text(registry.services.authority.ca_pem)
    monkeypatch.setenv("PACKHORSE_CONFIG", str(place / "config" / "login.json"))
    monkeypatch.setenv("PACKHORSE_URL", url)
    monkeypatch.setenv("PACKHORSE_KEY", registry.key)
    monkeypatch.setenv("PACKHORSE_CA", str(ca))

    def packhorse(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["packhorse", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.main()
        out, err = capsys.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    return packhorse
