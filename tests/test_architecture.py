"""The architecture's rules that no linter knows: who imports whom, how long, how heavy."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cloud
import edge_agent
import runtime
from runtime.errors import PackhorseError

ROOT = Path(__file__).parents[1]
PACKAGES = ("runtime", "edge_agent", "cloud")
MODULE_LINES = 300
FUNCTION_LINES = 40
LONGER: dict[str, str] = dict.fromkeys(
    (
        "cloud/cli/building_images.py:build",
        "cloud/cli/deployments.py:deploy",
        "cloud/cli/history.py:history",
        "cloud/cli/releasing.py:release",
        "cloud/cli/serve.py:serve",
        "cloud/cli/service_deploying.py:deploy",
        "cloud/cli/service_deploying.py:update",
        "cloud/cli/simulating.py:simulate",
        "cloud/cli/verifying.py:verify",
    ),
    "its signature is the table of the command's options",
)
"""Modules and functions above the caps, each with its reason."""
EMPTY_WORDS = {"utils", "util", "helpers", "helper", "common", "base", "misc"}
SUPERVISOR_NEVER_IMPORTS = (
    "asyncio",
    "cryptography",
    "httpx2",
    "numpy",
    "onnxruntime",
    "PIL",
    "pydantic",
    "uvicorn",
    "yaml",
)


def modules() -> Iterator[Path]:
    """Every module of ours but migrations, which are alembic's scripts, written once."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_the_import_contracts_hold() -> None:
    # In a process of its own: it sets up logging anew, and silences every logger that is there.
    program = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stdout


def test_no_module_is_longer_than_the_cap() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in modules()
        if (lines := len(path.read_text("utf-8").splitlines())) > MODULE_LINES
    }

    assert {name: lines for name, lines in long.items() if name not in LONGER} == {}


def test_no_function_is_longer_than_the_cap() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{function.name}": lines
        for path in modules()
        for function in functions(ast.parse(path.read_text("utf-8")))
        if function.end_lineno is not None
        and (lines := function.end_lineno - function.lineno + 1) > FUNCTION_LINES
    }

    assert {name: lines for name, lines in long.items() if name not in LONGER} == {}


def test_exceptions_to_the_caps_are_still_needed() -> None:
    names = {str(path.relative_to(ROOT)) for path in modules()}

    assert {name for name in LONGER if name.split(":")[0] not in names} == set()


def test_no_module_is_named_after_nothing() -> None:
    assert [path for path in modules() if path.stem in EMPTY_WORDS] == []


def test_every_package_of_ours_is_an_import_package() -> None:
    folders = {path.parent for path in modules()}

    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_supervisor_imports_nothing_heavy() -> None:
    """Its memory budget is in docs/benchmarks.md; each name here would break it."""
    code = (
        "import sys, edge_agent.agent\n"
        f"print([name for name in {SUPERVISOR_NEVER_IMPORTS!r} if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr


def every_error(kind: type[PackhorseError]) -> list[type[PackhorseError]]:
    """Return a class and all below it."""
    return [kind, *(found for below in kind.__subclasses__() for found in every_error(below))]


def test_every_error_of_ours_ends_in_error_and_has_a_docstring() -> None:
    for package in (runtime, edge_agent, cloud):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__") and ".migrations" not in module.name:
                importlib.import_module(module.name)

    for kind in every_error(PackhorseError):
        assert kind.__name__.endswith("Error"), kind
        assert kind.__doc__, kind
