"""Prove that a device with arm64 needs no compiler: each `[edge]` dependency, and what those need,
has a wheel for Python 3.10 to 3.13 on aarch64; and our own wheel is for every machine.

    python scripts/check_arm64_wheels.py [--python 3.11] [--wheel dist/packhorse-....whl]

pip resolves for that platform and downloads wheels alone into a directory that is thrown away. It
asks the package index that pip is set to, so it is not a part of the tests, which need no network.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info < (3, 11):
    raise SystemExit("run this with Python 3.11 or newer: it reads pyproject.toml")
import tomllib

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PLATFORMS = tuple(f"manylinux_2_{minor}_aarch64" for minor in (34, 31, 28, 27, 17))
"""glibc of Raspberry Pi OS 12 is 2.36, of JetPack 6 (Ubuntu 22.04) 2.35."""
PLATFORMS += ("manylinux2014_aarch64", "linux_aarch64")
ENDS = ("aarch64.whl", "none-any.whl")
TIMEOUT_S = 600.0


def requirements() -> list[str]:
    """Return what a device installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["edge"]]


def fitting(wanted: list[str], python: str) -> list[str]:
    """Return requirements whose marker, if they have one, holds for that Python.

    pip itself judges markers by the Python that runs it, not by the one asked for.
    """
    found = [Requirement(each) for each in wanted]
    environment = {"python_version": python, "python_full_version": f"{python}.0",
                   "platform_machine": "aarch64", "sys_platform": "linux"}  # fmt: skip
    kept = [each for each in found if each.marker is None or each.marker.evaluate(environment)]
    return [f"{each.name}{each.specifier}" for each in kept]


def missing(python: str) -> str:
    """Return what pip says is missing for one Python; "": nothing is."""
    with tempfile.TemporaryDirectory(prefix="arm64-wheels-") as place:
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--only-binary", ":all:", "--implementation", "cp", "--python-version", python,
            "--dest", place, *(f"--platform={each}" for each in PLATFORMS),
            *fitting(requirements(), python),
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        found = sorted(path.name for path in Path(place).iterdir())
    if done.returncode:
        return "; ".join(done.stderr.strip().splitlines()[-3:])
    strange = [name for name in found if not name.endswith(ENDS)]
    if strange:
        return f"not for this platform: {', '.join(strange)}"
    print(f"Python {python}: {len(found)} wheels for aarch64")
    return ""


def main() -> int:
    """Return 0 if every Python has every wheel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--python", action="append", choices=PYTHONS, help="only this one")
    parser.add_argument("--wheel", type=Path, help="our own, which must be for every machine")
    chosen = parser.parse_args()
    if chosen.wheel is not None and not chosen.wheel.name.endswith("-py3-none-any.whl"):
        print(f"{chosen.wheel.name}: not for every machine", file=sys.stderr)
        return 1
    failed = 0
    for python in chosen.python or PYTHONS:
        if trouble := missing(python):
            print(f"Python {python}: {trouble}", file=sys.stderr)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
