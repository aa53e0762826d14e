"""A requirements file: what an entry script imports, one package a line (PEP 508).

Devices install nothing by themselves: a worker only looks whether its environment, with the wheels
of the bundle, has what is listed (runtime.inference.environment). So what only an installer could
act on (options, URLs, other files) is refused here, by line.
"""

from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from runtime.errors import InvalidError

MAX_BYTES = 256 * 1024


def read(path: Path) -> tuple[str, ...]:
    """Return the requirements of a file; raise InvalidError naming the line that is none."""
    with path.open("rb") as file:
        return parse(file.read(MAX_BYTES + 1))


def parse(data: bytes) -> tuple[str, ...]:
    """Return the requirements in a file's bytes as they are written; raise as `read` does."""
    if len(data) > MAX_BYTES:
        raise InvalidError("requirements", f"more than {MAX_BYTES} bytes", "list packages alone")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidError("requirements", data[:40], "write it in UTF-8") from error
    lines = list(_lines(text))
    for field, line in lines:
        _require(line, field)
    return tuple(line for _, line in lines)


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield each line that says something, without its comment, and how an error names it."""
    for number, line in enumerate(text.splitlines(), 1):
        said = line.strip() if line.lstrip().startswith("#") else line.partition(" #")[0].strip()
        if said and not said.startswith("#"):
            yield f"requirements line {number}", said


def _require(line: str, field: str) -> None:
    """Raise InvalidError unless a line is a package, perhaps with versions and a marker."""
    if line.startswith("-") or " --" in line or line.endswith("\\"):
        raise InvalidError(
            field, line, "write one package a line, such as scikit-learn==1.7.2, without options"
        )
    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise InvalidError(field, line, f"{reason}: write a line such as numpy>=2") from error
    if requirement.url:
        raise InvalidError(
            field, line, "devices download nothing: put the wheel into wheels/ and name a version"
        )
