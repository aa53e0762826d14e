"""What `packhorse-runtime serve` may be told."""

from pathlib import Path
from typing import Any

import pytest

from runtime.errors import InvalidError
from runtime.serving import settings
from runtime.serving.settings import Settings

KEY = "0123456789abcdef"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"paths": ()}, "PATH"),
        ({"repository_api": True}, "--repository-api"),
        ({"http_port": 70_000}, "--http-port"),
        ({"grpc_port": -1}, "--grpc-port"),
        ({"http_port": 9, "grpc_port": 9}, "--grpc-port"),
        ({"max_body_bytes": 0}, "--max-body-mb"),
        ({"queue": 0}, "--queue"),
        ({"timeout_s": -1.0}, "--timeout"),
        ({"drain_s": -1.0}, "--drain-s"),
        ({"capture_fraction": 1.5}, "--capture-fraction"),
        ({"access_log": -0.1}, "--access-log"),
        ({"host": "0.0.0.0"}, "--host"),  # noqa: S104 - the case
        ({"host": "::"}, "--host"),
        ({"host": "10.0.0.1"}, "--host"),
        ({"host": "example.org"}, "--host"),
    ],
)
def test_what_does_not_go_together_is_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidError) as refused:
        settings.require(Settings(**({"paths": ("m.onnx",)} | given)))

    assert refused.value.field == field


@pytest.mark.parametrize(
    "given",
    [
        {"host": "::1"},
        {"host": "localhost"},
        {"host": "127.0.0.2"},
        {"host": "0.0.0.0", "api_key": KEY},  # noqa: S104 - the case
        {"host": "0.0.0.0", "insecure": True},  # noqa: S104 - the case
        {"host": "0.0.0.0", "http_port": None, "uds": Path("s")},  # noqa: S104 - the case
        {"http_port": 0, "grpc_port": 0},
    ],
)
def test_beyond_this_machine_it_takes_a_key_or_a_word(given: dict[str, Any]) -> None:
    made = Settings(**({"paths": ("m.onnx",)} | given))

    assert settings.require(made) is made


@pytest.mark.parametrize(
    "content", ["", "short", "two words are no key here", "x" * 5000, "ü" * 20]
)
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)

    with pytest.raises(InvalidError, match="--api-key-file"):
        settings.read_key(tmp_path / "key")
    with pytest.raises(InvalidError, match="--api-key-file"):
        settings.read_key(tmp_path / "absent")


def test_a_key_is_read_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")

    assert settings.read_key(tmp_path / "key") == KEY
