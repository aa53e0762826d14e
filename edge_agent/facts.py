"""What a device is: things that do not change while the agent runs. No heavy imports."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from edge_agent.workers.memory import MIB

ROOT = Path("/")
CPU_PROVIDER = "CPUExecutionProvider"
_PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
}
"""What onnxruntime's libraries are called to the provider in each, best first."""
_JETPACK_OF_L4T = {"32": "4", "35": "5", "36": "6", "38": "7"}


def agent_version() -> str:
    """Return the version of the installed distribution, by the name of its metadata.

    importlib.metadata says the same and keeps 2 MB of memory for it.
    """
    for place in sys.path:
        with contextlib.suppress(PermissionError):  # it may run as somebody who sees little
            for found in sorted(Path(place or ".").glob("packhorse-*.dist-info")):
                return found.name.removeprefix("packhorse-").removesuffix(".dist-info")
    return "unknown"


def collect(root: Path = ROOT, *, metered: bool = False) -> dict[str, str]:
    """Return the device's facts; `root` is where /proc, /dev and /etc are looked for.

    `metered` is what the settings say of its link.
    """
    system = os.uname()
    return {
        "arch": system.machine,
        "os": _os_name(root),
        "kernel": system.release,
        "hostname": system.nodename,
        "board": _first_line(root / "proc/device-tree/model"),
        "python": ".".join(map(str, sys.version_info[:3])),
        "agent": agent_version(),
        "cpus": str(os.cpu_count() or 1),
        "memory_mb": str(_memory_mb(root)),
        "accelerator": accelerator(root),
        "jetpack": jetpack(root),
        "l4t": l4t(root),
        "providers": ",".join(providers()),
        "metered": "yes" if metered else "no",
    }


def accelerator(root: Path = ROOT) -> str:
    """Return 'jetson', 'nvidia', 'hailo', 'coral' or 'none', by what its driver leaves."""
    signs = {
        "jetson": ("etc/nv_tegra_release", "dev/nvhost-gpu", "dev/nvhost-ctrl-gpu"),
        "nvidia": ("proc/driver/nvidia/version",),
        "hailo": ("dev/hailo0",),
        "coral": ("dev/apex_0",),
    }
    for name, paths in signs.items():
        if any((root / path).exists() for path in paths):
            return name
    return "none"


def l4t(root: Path = ROOT) -> str:
    """Return the version of NVIDIA's Linux for Tegra, such as "36.4.3"; "": there is none."""
    line = _first_line(root / "etc/nv_tegra_release")
    found = re.match(r"# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", line)
    return "" if found is None else f"{found[1]}.{found[2]}"


def jetpack(root: Path = ROOT) -> str:
    """Return the major version of NVIDIA's JetPack, which that of L4T tells; "": unknown."""
    return _JETPACK_OF_L4T.get(l4t(root).partition(".")[0], "")


def providers() -> tuple[str, ...]:
    """Return onnxruntime's execution providers that are installed, best first.

    Told by the libraries that lie in its package: to import it costs 40 MB. Whether a driver
    behind one works shows when a model is loaded.
    """
    libraries = {path.name for path in _libraries()}
    found = [
        provider
        for name, provider in _PROVIDERS.items()
        if f"libonnxruntime_providers_{name}.so" in libraries
    ]
    return (*found, CPU_PROVIDER)


def _libraries() -> Iterator[Path]:
    for place in sys.path:
        yield from (Path(place or ".") / "onnxruntime/capi").glob("libonnxruntime_providers_*.so")


def boot_id(root: Path = ROOT) -> str:
    """Return what the kernel calls this boot; '' where it does not say."""
    return _first_line(root / "proc/sys/kernel/random/boot_id")


def _os_name(root: Path) -> str:
    try:
        lines = (root / "etc/os-release").read_text("utf-8", "replace").splitlines()
    except OSError:
        return os.uname().sysname
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return values.get("PRETTY_NAME", os.uname().sysname).strip("\"'")


def _memory_mb(root: Path) -> int:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024 // MIB
    return 0


def _first_line(path: Path) -> str:
    return _text(path).strip("\0\n ").partition("\n")[0]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
