import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.build import build
from runtime.errors import ModelError
from runtime.inference import environment, wheels
from runtime.inference.model import Model
from tests.support import scripts

USING = """
import ph_tiny

def run(inputs):
    return {"y": inputs["x"].sum(axis=1) * ph_tiny.FACTOR}
"""


def test_what_the_environment_has_is_enough() -> None:
    environment.require(
        ["numpy", "NumPy>=1", 'nowhere-to-be-found; python_version < "3"', "msgspec>=0.1,<99"]
    )


def test_each_package_that_lacks_is_named_with_what_is_here_and_what_to_do() -> None:
    with pytest.raises(ModelError) as caught:
        environment.require(["numpy>=99", "nowhere-to-be-found==1.0"])

    text = str(caught.value)
    assert f"numpy>=99 (there is {np.__version__})" in text
    assert "nowhere-to-be-found==1.0 (there is none)" in text
    assert platform.python_version() in text
    assert "-m pip install 'numpy>=99' nowhere-to-be-found==1.0" in text
    assert "or put wheels into the bundle's wheels/" in text
    assert "\n" not in text


def test_a_bundle_that_lacks_a_package_does_not_load(tmp_path: Path) -> None:
    yaml = scripts.SIGNATURE + "requirements: needs.txt\n"
    scripts.write(tmp_path, yaml=yaml)
    (tmp_path / "needs.txt").write_text("nowhere-to-be-found\n")

    with pytest.raises(ModelError, match=r"lacks nowhere-to-be-found \(there is none\)"):
        Model.load(tmp_path, build(tmp_path).index)


def load_and_run(directory: Path) -> str:
    """Load a bundle in a process of its own; return what it answers, or why not."""
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from runtime.bundle.build import build; from runtime.inference.model import Model\n"
        "from runtime.errors import PackhorseError\n"
        "place = Path(sys.argv[1])\n"
        "try:\n"
        "    model = Model.load(place, build(place).index)\n"
        "    print(model.predict({'x': np.ones((1, 4), np.float32)})['y'].tolist())\n"
        "except PackhorseError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-B", "-c", code, str(directory)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return run.stdout.strip()


def test_a_pure_wheel_in_the_bundle_is_importable_and_meets_a_requirement(tmp_path: Path) -> None:
    scripts.write(tmp_path, script=USING, yaml=scripts.SIGNATURE + "requirements: needs.txt\n")
    (tmp_path / "needs.txt").write_text("ph-tiny==1.0\n")
    data = "ph_tiny-1.0.data/purelib/ph_tiny/extra.py"
    files = {
        "ph_tiny/__init__.py": "from ph_tiny_data import FACTOR",
        "ph_tiny_data.py": "FACTOR=3",
    }
    scripts.wheel(tmp_path / "wheels", {**files, data: ""}, name="ph_tiny")

    assert load_and_run(tmp_path) == "[12.0]"
    assert (tmp_path / ".wheels" / "ph_tiny-1.0-py3-none-any" / "ph_tiny_data.py").exists()
    unpacked = tmp_path / ".wheels" / "ph_tiny-1.0-py3-none-any" / "ph_tiny_data.py"
    before = unpacked.stat().st_ino
    assert load_and_run(tmp_path) == "[12.0]"
    assert unpacked.stat().st_ino == before, "the second start finds it unpacked"
    unpacked.write_text("FACTOR=4")
    assert load_and_run(tmp_path) == "[12.0]", "a file that has changed is unpacked again"


def test_a_wheel_of_what_the_worker_runs_on_is_refused(tmp_path: Path) -> None:
    scripts.write(tmp_path)
    scripts.wheel(tmp_path / "wheels", {"numpy/__init__.py": ""}, name="numpy", version="99.0")

    assert "numpy is what the worker itself runs on" in load_and_run(tmp_path)


def test_the_wheel_for_this_machine_is_chosen() -> None:
    tag = f"cp3{sys.version_info.minor}"
    fits = f"wheels/tiny-1.0-{tag}-{tag}-manylinux_2_17_{platform.machine()}.whl"
    paths = [
        "wheels/tiny-1.0-cp27-cp27m-manylinux1_x86_64.whl",
        "wheels/tiny-1.0-py3-none-any.whl",
        fits,
        "wheels/notes.txt",
        "elsewhere/other-1.0-py3-none-any.whl",
    ]

    assert environment.choose(paths) == [fits]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("wheels/tiny-1.0-cp27-cp27m-win32.whl", "no wheel of it fits Python"),
        ("wheels/tiny.whl", "keep the name it was built with"),
    ],
)
def test_a_wheel_that_cannot_be_used_is_named(path: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        environment.choose([path])

    assert path in str(caught.value)


def test_a_wheel_that_reaches_outside_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    wheel = scripts.wheel(tmp_path, {"good.py": "", "../evil.py": ""}, name="evil")

    with pytest.raises(ModelError, match=r"evil-1\.0-py3-none-any\.whl is no wheel"):
        wheels.unpack(wheel, tmp_path / "out" / "evil")

    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "evil.py").exists()


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x05\x06"])
def test_what_is_no_zip_is_no_wheel(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.whl").write_bytes(data)

    with pytest.raises(ModelError, match=r"a\.whl is no wheel"):
        wheels.unpack(tmp_path / "a.whl", tmp_path / "out" / "a")


def test_a_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "MAX_UNPACKED_BYTES", 1000)
    path = tmp_path / "bomb.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.bin", bytes(1_000_000))

    with pytest.raises(ModelError, match="it unpacks to 1 files, 1000000 bytes"):
        wheels.unpack(path, tmp_path / "out" / "bomb")
