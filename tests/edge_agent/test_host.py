"""The systemd unit: what systemd itself says of it, and what is written where."""

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import cli
from edge_agent.host import install, unit
from edge_agent.host.unit import Wish
from runtime.errors import InvalidError
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


def test_a_program_at_home_can_be_read_and_not_written() -> None:
    text = unit.render(Wish(("/home/pi/venv/bin/packhorse-agent", "run"), DATA))

    assert "ProtectHome=read-only" in text


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
