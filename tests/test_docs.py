"""What the documents say is there is there, and what is there is documented."""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from cloud.cli.main import app
from edge_agent import cli
from runtime import __main__ as runtime_program
from runtime import batches, candidates, messages
from runtime.bundle import index, parts
from runtime.messages import Phase
from runtime.topics import Channel, DeviceId, every_device, render
from tests.support import documents
from tests.support.documents import ROOT

OTHER_PROGRAMS = {
    "apt-get",
    "cd",
    "cp",
    "cat",
    "curl",
    "docker",
    "echo",
    "export",
    "grep",
    "jobs",
    "kill",
    "mkdir",
    "packhorse/bin/pip",
    "pip",
    "python",
    "python3",
    "sed",
    "sleep",
    "source",
    "sqlite3",
    "umask",
    "wait",
}
"""Programs in documents that are not ours."""
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def wrong_with_packhorse(words: list[str]) -> str:
    """Return what `packhorse` would not understand, or ""."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and hasattr(command, "commands"):
        name = rest.pop(0)
        if name == "--help":
            return ""
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    known = {name for option in command.params for name in option.opts + option.secondary_opts}
    return unknown_options(rest, known)


def wrong_with_agent(words: list[str]) -> str:
    """Return what `packhorse-agent` would not understand, or ""."""
    return wrong_with_parser(words, cli._parser())


def wrong_with_parser(words: list[str], parser: argparse.ArgumentParser) -> str:
    (commands,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    if words[:1] == ["--help"]:
        return ""
    if not words or words[0] not in commands.choices:
        return f"no command {words[:1]}"
    chosen = commands.choices[words[0]]
    known = {name for action in chosen._actions for name in action.option_strings}
    return unknown_options(words[1:], known)


def unknown_options(words: list[str], known: set[str]) -> str:
    given = [word.partition("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)]
    return ", ".join(option for option in given if option not in {*known, "--help"})


def wrong_with_make(words: list[str]) -> str:
    """Return the targets that the Makefile does not have."""
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    return ", ".join(word for word in words if "=" not in word and word not in targets)


def wrong(words: list[str], directory: Path) -> str:
    """Return what is wrong with a command in a document, or ""."""
    places = (ROOT, directory, ROOT / "examples" / "01_first_model")
    trouble = ""
    match words:
        case ["packhorse", *rest]:
            trouble = wrong_with_packhorse(rest)
        case ["packhorse-agent", *rest]:
            trouble = wrong_with_agent(rest)
        case ["packhorse-runtime", *rest]:
            trouble = wrong_with_parser(rest, runtime_program.parser())
        case ["make", *rest]:
            trouble = wrong_with_make(rest)
        case ["python", script, *_] if script.endswith(".py"):
            trouble = "" if any((place / script).is_file() for place in places) else "no such file"
        case [program, *_] if program.startswith(("scripts/", ".ci/")):
            trouble = "" if (ROOT / program).is_file() else "no such file"
        case ["kubectl", "apply", "-k", folder]:
            there = (ROOT / folder / "kustomization.yaml").is_file()
            trouble = "" if there else "no kustomization"
        case [program, *_] if program not in OTHER_PROGRAMS:
            trouble = "what is this?"
    return trouble


def test_every_command_in_the_documents_is_one_that_programs_understand() -> None:
    found = [
        f"{where}: {trouble}"
        for page in documents.pages()
        for words in documents.commands(page)
        if (trouble := wrong(words, page.parent))
        for where in [f"{page.relative_to(ROOT)}: {' '.join(words)}"]
    ]

    assert found == []


@pytest.mark.parametrize(
    "words",
    [
        ["packhorse", "modles", "push"],
        ["packhorse", "deploy", "digits", "--two", "all"],
        ["packhorse-agent", "enroll"],
        ["packhorse-runtime", "serve", "--prot", "1"],
        ["packhorse-agent", "run", "--datta", "x"],
        ["make", "everything"],
        ["scripts/none.sh"],
        ["kubectl", "apply", "-k", "nowhere"],
        ["python", "nothing.py"],
        ["frobnicate"],
    ],
)
def test_a_command_that_nobody_understands_would_be_found(words: list[str]) -> None:
    assert wrong(words, ROOT) != ""


def test_every_link_leads_to_a_file() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in documents.pages()
        for target in LINK.findall(page.read_text("utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]

    assert broken == []


@pytest.mark.parametrize("script", ["generate_reference.py", "generate_openapi.py"])
def test_the_reference_is_what_the_code_says(script: str) -> None:
    run = subprocess.run(
        [sys.executable, f"scripts/{script}", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("page", ["docs/specs/manifest.md", "docs/states.md"])
@pytest.mark.parametrize("phase", Phase)
def test_every_phase_is_explained(phase: Phase, page: str) -> None:
    assert f"| `{phase.value}` |" in (ROOT / page).read_text("utf-8")


@pytest.mark.parametrize("channel", Channel)
def test_every_topic_is_in_the_specification(channel: Channel) -> None:
    topic = render(DeviceId("device"), channel).replace("device", "{device}")
    topic = re.sub(r"/s\d\d/", "/{shard}/", topic)

    assert f"| `{topic}` |" in (ROOT / "docs" / "specs" / "mqtt.md").read_text("utf-8")
    assert every_device(channel).startswith("ph/1/")


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        (messages.Desired, "manifest"),
        (messages.ModuleSpec, "manifest"),
        (messages.Reported, "manifest"),
        (messages.ModuleReport, "manifest"),
        (candidates.Candidate, "candidates"),
        (candidates.Gate, "candidates"),
        (candidates.CandidateReport, "candidates"),
        (messages.FetchRequest, "mqtt"),
        (messages.FetchResponse, "mqtt"),
        (messages.Offer, "mqtt"),
        (messages.Presence, "mqtt"),
        (messages.Ack, "telemetry"),
        (batches.Record, "telemetry"),
        (parts.PartTable, "bundle"),
        (index.Check, "bundle"),
        (index.Resources, "bundle"),
    ],
)
def test_every_field_on_the_wire_is_in_the_specification(kind: Any, page: str) -> None:
    text = (ROOT / "docs" / "specs" / f"{page}.md").read_text("utf-8")

    missing = [
        name for name in kind.__struct_fields__ if not re.search(rf"[`\".]{name}[`\".]", text)
    ]

    assert missing == []


@pytest.mark.parametrize(
    ("value", "page"),
    [
        (messages.MAX_MESSAGE_BYTES, "mqtt"),
        (messages.MAX_OFFER_BLOBS, "mqtt"),
        (batches.MAX_BATCH_BYTES, "telemetry"),
        (batches.MAX_BATCH_PLAIN_BYTES, "telemetry"),
        (batches.MAX_BATCH_RECORDS, "telemetry"),
        (index.MAX_FILES, "bundle"),
        (parts.PART_BYTES, "bundle"),
    ],
)
def test_every_limit_is_in_the_specification(value: int, page: str) -> None:
    text = (ROOT / "docs" / "specs" / f"{page}.md").read_text("utf-8")

    assert re.search(rf"\b{value:,}\b|\b{value}\b", text)


def test_every_decision_is_numbered_once_and_says_why_and_at_what_price() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    words = ("**Decision.**", "**Why.**", "**Price.**")
    texts = {page.name: page.read_text("utf-8") for page in pages}

    assert [int(name[:4]) for name in texts] == list(range(len(pages)))
    assert [name for name, text in texts.items() if not text.startswith(f"# {name[:4]} ")] == []
    assert [name for name, text in texts.items() if not all(word in text for word in words)] == []


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    listed = project[project.index("dependencies = [") : project.index("[project.scripts]")]
    names = set(re.findall(r'"([a-z][a-z0-9-]+)[^"]*"', listed)) - {"packhorse"}

    missing = [name for name in sorted(names) if name not in text and not name.startswith("types-")]

    assert missing == []


def test_every_test_that_answers_a_complaint_is_there() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs/complaints.md").read_text())
    there = {
        (path.name, name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text("utf-8"))
    }

    assert [pair for pair in named if pair not in there] == []
    assert len(named) > 20
