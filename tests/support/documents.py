"""Commands in documents: found here, run or checked by tests."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:packhorse|packhorse-agent|make|scripts/\S+) [^`\n]*)`")
_REDIRECTION = re.compile(r"\d?>&\d|\d?[<>]\s*\S+")
_CONTINUED = re.compile(r"\\\n\s*")


def pages() -> list[Path]:
    """Return every document of ours."""
    return sorted(
        [
            *ROOT.glob("*.md"),
            *(ROOT / "docs").rglob("*.md"),
            *(ROOT / "examples").rglob("*.md"),
            *(ROOT / "deploy").rglob("*.md"),
        ]
    )


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the fenced blocks of these languages, in order."""
    return [text for kind, text in _BLOCK.findall(page.read_text("utf-8")) if kind in languages]


def commands(page: Path) -> Iterator[list[str]]:
    """Yield every command of a page as words: of its blocks and within its prose."""
    for block in blocks(page, "bash", "console", "sh"):
        for line in _CONTINUED.sub(" ", block).splitlines():
            yield from _simple_commands(line)
    prose = _BLOCK.sub("", page.read_text("utf-8"))
    for text in _INLINE.findall(prose):
        yield from _simple_commands(text)


def _simple_commands(line: str) -> Iterator[list[str]]:
    """Yield the commands of a line that may join several with pipes, `;`, `&` and `$(...)`."""
    lexer = shlex.shlex(_REDIRECTION.sub(" ", line), posix=True, punctuation_chars="|&;()")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("|&;()"):
            if words:
                yield words
            words = []
        elif word not in {"$", "until", "do", "done", "if", "then", "fi"}:
            words.append(word)
    if words:
        yield words
