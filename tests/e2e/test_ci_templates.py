"""The pipelines of examples/06_web_service: valid where they run, with commands of ours."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from cloud.cli.main import app
from cloud.registry import selectors
from cloud.releasing import gates
from tests.support import documents

CI = documents.ROOT / "examples" / "06_web_service" / "ci"
WORKFLOW = CI / ".github" / "workflows" / "release-model.yml"
PIPELINE = CI / ".gitlab-ci.yml"
SCHEMAS = [
    (WORKFLOW, ["--builtin-schema", "vendor.github-workflows"]),
    (WORKFLOW, ["--builtin-schema", "custom.github-workflows-require-timeout"]),
    (PIPELINE, ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"]),
]


def judged(file: Path, options: list[str]) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "check-jsonschema"
    return subprocess.run(
        [str(program), *options, str(file)], capture_output=True, text=True, check=False, timeout=60
    )


def scripts() -> list[str]:
    """Return every shell script of both files."""
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["release"]["steps"]
    pipeline: dict[str, Any] = yaml.safe_load(PIPELINE.read_text())
    jobs = [pipeline["default"]["before_script"]] + [
        pipeline[n]["script"] for n in ("train", "release")
    ]
    return [step["run"] for step in steps if "run" in step] + [line for job in jobs for line in job]


@pytest.mark.parametrize(("file", "options"), SCHEMAS)
def test_a_pipeline_is_what_its_service_reads(file: Path, options: list[str]) -> None:
    done = judged(file, options)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("file", "options"), SCHEMAS)
def test_a_pipeline_with_a_slip_would_be_refused(
    tmp_path: Path, file: Path, options: list[str]
) -> None:
    slipped = tmp_path / file.name
    text = file.read_text().replace("timeout-minutes: 30", "timeout-minuts: 30")
    slipped.write_text(text.replace("resource_group: release-progression", "resource_group: [1]"))

    assert judged(slipped, options).returncode == 1


def test_pipelines_use_commands_of_ours_that_exist() -> None:
    command: Any = typer.main.get_command(app)
    words = [
        script.replace("\\\n", " ").split() for text in scripts() for script in text.splitlines()
    ]
    used = {line[1] for line in words if line[:1] == ["packhorse"]}

    assert {"models", "release"} <= used
    assert used <= set(command.commands)


def test_what_pipelines_release_is_asked_for_in_words_that_we_understand() -> None:
    command: Any = typer.main.get_command(app)
    asked = [
        shlex.split(line)[2:]
        for script in scripts()
        for line in script.replace("\\\n", " ").splitlines()
        if line.startswith("packhorse release ")
    ]

    assert len(asked) == 2
    for words in asked:
        parsed = command.commands["release"].make_context("release", words).params
        assert parsed["service"] == "progression"
        assert [gates.parse(text).quantity for text in parsed["gate"]] == ["metadata.mean_error"]
        assert selectors.parse(parsed["to"]).matches({"site": "lab"})


def test_no_pipeline_shows_its_key_on_a_command_line() -> None:
    assert not [script for script in scripts() if "PACKHORSE_KEY" in script]


def test_both_pipelines_train_check_and_release_the_same() -> None:
    github, gitlab = (" ".join(part) for part in (scripts()[:4], scripts()[4:]))
    for command in (
        "python train.py",
        "packhorse models check work/progression-2",
        "--service progression --to 'site=lab' --gate 'metadata.mean_error <= 47'",
    ):
        assert command in " ".join(github.replace("\\\n", " ").split())
        assert command in " ".join(gitlab.split())
