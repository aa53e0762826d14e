"""Wheels of this very project, with other versions and, for some tests, with faults."""

import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.support.documents import ROOT

Change = Callable[[str, str], str]


def wheel(place: Path, version: str, change: Change = lambda _name, text: text) -> Path:
    """Write the project's own wheel with another version; `change` may spoil a module.

    What it depends on is found where this very Python finds it: nothing is downloaded.
    """
    path = place / f"packhorse-{version}-py3-none-any.whl"
    info = f"packhorse-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        for package in ("runtime", "edge_agent"):
            for module in sorted((ROOT / package).rglob("*.py")):
                name = module.relative_to(ROOT).as_posix()
                file.writestr(name, change(name, module.read_text("utf-8")))
        file.writestr("packhorse_borrowed.pth", sysconfig.get_paths()["purelib"] + "\n")
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: packhorse\nVersion: {version}\n"
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return path


def hasty(name: str, text: str) -> str:
    """An agent that has proved itself after a tenth of a second without a link."""
    changed = text.replace("ALONE_S = 900.0", "ALONE_S = 0.1").replace(
        "LINKED_S = 60.0", "LINKED_S = 0.1"
    )
    return changed if name.endswith("proving.py") else text


def changed(module: str, old: str, new: str, otherwise: Change) -> Change:
    """Return a change that replaces one text in one module, and is another one elsewhere."""

    def change(name: str, text: str) -> str:
        if name != module:
            return otherwise(name, text)
        assert old in text, (module, old)
        return text.replace(old, new)

    return change
