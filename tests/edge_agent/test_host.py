"""The systemd unit: what systemd itself says of it, and what is written where."""

import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import cli
from edge_agent.doctor import examine
from edge_agent.doctor.findings import Level
from edge_agent.host import checks, install, unit, update
from edge_agent.host.unit import Wish
from runtime.errors import InvalidError, PackhorseError
from tests.support import parts

TRUE = ("/bin/true", "run")
DATA = Path("/var/lib/packhorse")
EXPOSURE = 25
"""Tenths: what systemd calls "OK"; a unit without any fence has 96."""


def written(tmp_path: Path, wish: Wish) -> Path:
    path = tmp_path / f"{unit.NAME}.service"
    path.write_text(unit.render(wish))
    return path


@pytest.mark.parametrize(
    "wish",
    [
        Wish(TRUE, DATA),
        Wish(TRUE, Path("/srv/edge/data"), user="root2", groups=("video", "docker"), memory="2G"),
        Wish(("/bin/true", "-m", "a b", 'say "x" $HOME 5%'), DATA, writable=(Path("/mnt/x"),)),
    ],
    ids=["default", "elsewhere", "words"],
)
def test_systemd_accepts_the_unit(tmp_path: Path, wish: Wish) -> None:
    program = parts.require("systemd-analyze")
    run = subprocess.run(
        [program, "verify", "--man=no", "--recursive-errors=no", str(written(tmp_path, wish))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (run.returncode, run.stderr) == (0, "")


def test_systemd_finds_the_service_well_fenced(tmp_path: Path) -> None:
    program = parts.require("systemd-analyze")
    run = subprocess.run(
        [
            program, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}",
            str(written(tmp_path, Wish(TRUE, DATA))),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )  # fmt: skip

    assert run.returncode == 0, run.stdout[-500:] + run.stderr


def test_a_device_boots_and_infers_without_a_network_and_is_started_again_for_ever() -> None:
    text = unit.render(Wish(TRUE, DATA))

    assert "network-online" not in text
    assert {"StartLimitIntervalSec=0", "Restart=always", "Type=notify"} <= set(text.splitlines())


@pytest.mark.parametrize("home", ["/home", "/root", "/run/user"])
def test_a_program_at_home_can_be_read_and_not_written(home: str) -> None:
    program = Wish((f"{home}/bin/packhorse-agent", "run"), DATA)
    its_python = Wish(TRUE, DATA, readable=(Path(home, "bin/python"),))

    assert "ProtectHome=read-only" in unit.render(program)
    assert "ProtectHome=read-only" in unit.render(its_python)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish(TRUE, DATA, user="root"), "name a user of its own"),
        (Wish(TRUE, DATA, user="a b"), "user"),
        (Wish(TRUE, DATA, groups=("video\nUser=root",)), "group"),
        (Wish(TRUE, DATA, memory="lots"), "memory-max"),
        (Wish(TRUE, Path("relative")), "absolute path"),
        (Wish(TRUE, Path("/")), "absolute path"),
        (Wish(TRUE, Path("/a b")), "without spaces"),
        (Wish(TRUE, Path("/a/../etc")), "absolute path"),
        (Wish(("packhorse-agent",), DATA), "absolute path"),
    ],
)
def test_a_wish_that_would_be_another_unit_is_refused(wish: Wish, words: str) -> None:
    with pytest.raises(InvalidError, match=words):
        unit.render(wish)


@given(st.text(max_size=30))
def test_no_argument_adds_a_line_or_another_argument(word: str) -> None:
    quoted = unit._quoted(word)

    assert quoted == word or re.fullmatch(r'"([^"\\]|\\.|[\n])*"', quoted, re.DOTALL)


def test_install_writes_a_unit_and_a_user_and_uninstall_takes_them_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--root", str(tmp_path), "--data", "/var/lib/packhorse"]

    assert cli.main(["install", *arguments, "--user", "edge", "--group", "video"]) == 0
    service = (tmp_path / install.UNIT).read_text()
    users = (tmp_path / install.SYSUSERS).read_text()
    assert cli.main(["install", *arguments, "--user", "edge", "--group", "video"]) == 0
    assert "kept" in capsys.readouterr().out
    assert cli.main(["uninstall", *arguments]) == 0

    assert "User=edge" in service
    assert "--data /var/lib/packhorse" in service
    assert 'u edge - "Packhorse agent" /var/lib/packhorse' in users
    assert list(tmp_path.rglob("*.service")) + list(tmp_path.rglob("*.conf")) == []
    assert cli.main(["uninstall", *arguments]) == 0
    assert "nothing is installed here" in capsys.readouterr().out


def test_systemd_itself_makes_the_user(tmp_path: Path) -> None:
    program = parts.require("systemd-sysusers")
    parts.require_root("systemd-sysusers writes /etc below its root")
    wish = Wish(TRUE, DATA, user="edge")
    install.install(wish, root=tmp_path)
    subprocess.run([program, f"--root={tmp_path}"], check=True, capture_output=True, timeout=60)

    (line,) = (tmp_path / "etc" / "passwd").read_text().splitlines()
    assert line.startswith("edge:")
    assert line.endswith(":/var/lib/packhorse:/usr/sbin/nologin")


def test_a_user_that_is_none_is_told_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["install", "--root", str(tmp_path), "--data", "/x", "--user", "root"])

    assert code == 2
    assert "name a user of its own" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["update"], 2, "name a wheel, or a version"),
        (["update", "1.0; rm"], 2, "write a version"),
        (["update", "1.0"], 1, "install --slots VERSION"),
        (["update", "1.0", "--find-links", "/nowhere"], 2, "name a directory of wheels"),
        (["install", "--self-update"], 2, "give --slots too"),
    ],
)
def test_an_update_that_cannot_be_is_told_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert cli.main([*arguments, "--data", str(tmp_path / "data")]) == code
    assert words in capsys.readouterr().err


NOBODY = 65_534


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Be a user who may nothing, as far as files go."""
    parts.require_root("becomes another user")
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status"], "run it as root, or with sudo"),
        (["status", "--json"], "run it as root, or with sudo"),
        (["predict", "scale", "QUESTION"], "run it as root, or with sudo"),
        (["run"], "run it as root, or with sudo"),
        (["update", "1.0"], "run it as root, or with sudo"),
        (["install"], "run it as root (sudo)"),
        (["uninstall"], "run it as root (sudo)"),
    ],
)
def test_who_may_not_is_told_who_may_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """Not that no agent runs, and no traceback."""
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    place.chmod(0o755)
    question, data = place / "question.json", place / "data"
    question.write_text("{}")
    (data / "run").mkdir(parents=True)
    update.directory_of(data).mkdir()
    (data / "journal.json").write_text("{}")
    data.chmod(0o700)
    told = [str(question) if each == "QUESTION" else each for each in arguments]
    cli.main([*told, "--data", str(tmp_path / "none")])  # what it loads, nobody could not
    capsys.readouterr()
    with nobody():
        code = cli.main([*told, "--data", str(data)])
    shutil.rmtree(place)

    said = capsys.readouterr().err
    assert code == 1
    assert len(said.splitlines()) == 1, said
    assert words in said


def test_the_doctor_says_whose_rights_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    examine.examine(data)
    monkeypatch.setattr(sys, "path", [])  # this Python may lie where nobody may look
    with nobody():
        found = examine.examine(data)

    (told,) = [each for each in found.findings if each.area == "data"]
    assert told.level is Level.BROKEN
    assert "sudo" in told.do


def booted(tmp_path: Path) -> Path:
    (tmp_path / checks.BOOTED).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "packhorse-agent enrol --data"),
        ({"groups": ("no-such-group-here",)}, "name a group of this system"),
        ({"command": ("CLOSED/agent", "run")}, "make the environment elsewhere"),
    ],
)
def test_a_service_that_could_not_start_is_not_installed(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    parts.require_root("installs as root")
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "closed" / "agent").touch(mode=0o755)
    if "command" in change:
        change = {"command": (str(tmp_path / "closed" / "agent"), "run")}
    wish = dataclasses.replace(Wish(TRUE, tmp_path / "data"), **change)

    with pytest.raises(PackhorseError, match=words):
        checks.require_possible(wish, start=True, root=booted(tmp_path / "root"))


def test_without_systemd_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.require_root("installs as root")
    monkeypatch.setattr(checks, "BOOTED", "run/systemd/none")
    written: list[object] = []
    monkeypatch.setattr(install, "_write", lambda *given: written.append(given))
    code = cli.main(["install", "--data", str(tmp_path / "data")])

    assert (code, written) == (1, [])
    assert "systemd is not at work here" in capsys.readouterr().err


def test_a_service_with_slots_may_count_its_starts_and_change_no_code() -> None:
    slots = Path("/var/lib/packhorse-slots")
    command = ("/usr/bin/python3", "-I", str(slots / "launcher.py"), str(slots), "run")
    text = unit.render(Wish(command, DATA, writable=(slots / "state",)))

    assert f"ReadWritePaths={slots}/state\n" in text
    assert f"ExecStart={' '.join(command)} --data {DATA}\n" in text
