"""For which Python and machine packages are wanted: pure.

Platform ─► pip's options            which wheels may be taken
         ─► wheel tags, best first   which of a bundle's own wheels fit
         ─► marker environment       which requirements apply
"""

from collections.abc import Iterable
from dataclasses import dataclass

from packaging import tags
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.tags import Tag

MIN_PYTHON = (3, 10)
_OLDEST_GLIBC = 5
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""Names that wheels had before they named glibc's version."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


@dataclass(frozen=True)
class Platform:
    """A Python on a machine."""

    python: tuple[int, int]
    full_version: str
    """"3.11.2"."""
    machine: str
    """As uname has it: x86_64, aarch64."""
    libc: str
    """glibc or musl."""
    libc_version: tuple[int, int]

    @property
    def name(self) -> str:
        """Return what people call it."""
        major, minor = self.libc_version
        return (
            f"Python {self.python[0]}.{self.python[1]} on {self.machine},"
            f" {self.libc} {major}.{minor}"
        )

    @property
    def architecture(self) -> str:
        """Return the machine as container engines call it."""
        return _ARCHITECTURES.get(self.machine, self.machine)


def platform_tags(platform: Platform) -> tuple[str, ...]:
    """Return the tags of binary wheels that run there, best first."""
    major, minor = platform.libc_version
    if platform.libc == "musl":
        named = [f"musllinux_{major}_{each}" for each in range(minor, -1, -1)]
    else:
        named = []
        for each in range(minor, _OLDEST_GLIBC - 1, -1):
            named.append(f"manylinux_{major}_{each}")
            named += [_LEGACY[each]] if each in _LEGACY else []
    return tuple(f"{name}_{platform.machine}" for name in (*named, "linux"))


def pip_options(platform: Platform) -> tuple[str, ...]:
    """Return what makes pip choose wheels for it, and nothing but wheels."""
    return (
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={platform.python[0]}.{platform.python[1]}",
        *(f"--platform={tag}" for tag in platform_tags(platform)),
    )


def wheel_tags(platform: Platform) -> tuple[Tag, ...]:
    """Return every tag that a wheel may have to be used there, best first."""
    abi = f"cp{platform.python[0]}{platform.python[1]}"
    binary = platform_tags(platform)
    return (
        *tags.cpython_tags(platform.python, [abi], binary),
        *tags.compatible_tags(platform.python, abi, binary),
    )


def environment(platform: Platform) -> dict[str, str]:
    """Return what markers are evaluated with there."""
    here = {name: str(value) for name, value in default_environment().items()}
    return here | {
        "implementation_name": "cpython",
        "implementation_version": platform.full_version,
        "os_name": "posix",
        "platform_machine": platform.machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": platform.full_version,
        "python_version": f"{platform.python[0]}.{platform.python[1]}",
        "sys_platform": "linux",
    }


def applying(requirements: Iterable[str], platform: Platform, extra: str = "") -> tuple[str, ...]:
    """Return those requirements whose markers hold there, without their markers, sorted."""
    where = environment(platform) | {"extra": extra}
    found = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(where):
            requirement.marker = None
            found.append(str(requirement))
    return tuple(sorted(set(found)))
