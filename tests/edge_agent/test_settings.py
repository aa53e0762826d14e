from pathlib import Path

import pytest

from edge_agent import settings
from edge_agent.settings import AgentSettings
from runtime.errors import InvalidError


def test_without_file_and_variables_there_are_defaults(tmp_path: Path) -> None:
    assert settings.load(None, {}) == AgentSettings()
    assert settings.load(tmp_path / "missing.toml", {}) == AgentSettings()


def test_the_environment_stands_above_the_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("heartbeat_s = 30\ncrash_limit = 3\n[http]\ndigits = 8080\n")

    chosen = settings.load(
        file,
        {
            "PACKHORSE_AGENT_HEARTBEAT_S": "5.5",
            "PACKHORSE_AGENT_LOG_FORMAT": "json",
            "PACKHORSE_AGENT_SOURCE_ROOTS": '["/data", "/mnt"]',
            "PACKHORSE_AGENT_DATA": "/elsewhere",
            "OTHER": "1",
        },
    )

    assert chosen.heartbeat_s == 5.5
    assert chosen.crash_limit == 3
    assert chosen.limits.crash_limit == 3
    assert chosen.http == {"digits": 8080}
    assert chosen.log_format == "json"
    assert chosen.source_roots == ("/data", "/mnt")


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("heartbeet_s = 1", "heartbeet_s", "did you mean heartbeat_s?"),
        ("zzz = 1", "zzz", "the settings are"),
        ("heartbeat_s = 0", "heartbeat_s", "> 0"),
        ("heartbeat_s = 'soon'", "heartbeat_s", "float"),
        ("heartbeat_s = 604800", "heartbeat_s", "<= 86400"),
        ("log_level = 'loud'", "log_level", "loud"),
        ("http = {digits = 99999}", "http", "65535"),
        ("source_roots = ['data']", "source_roots", "absolute"),
        ("engine_url = 'tcp://h:2375'", "engine_url", "unix:///run/podman/podman.sock"),
        ("heartbeat_s = ", "agent.toml", "TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_do(
    tmp_path: Path, text: str, field: str, words: str
) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(text)

    with pytest.raises(InvalidError) as caught:
        settings.load(file, {})

    assert caught.value.field.endswith(field)
    assert words in str(caught.value)


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="did you mean stable_s"):
        settings.load(tmp_path / "none.toml", {"PACKHORSE_AGENT_STABEL_S": "3"})


def test_every_setting_is_documented() -> None:
    lines = Path(settings.__file__).read_text("utf-8").splitlines()
    for field in AgentSettings.__struct_fields__:
        (at,) = [n for n, line in enumerate(lines) if line.startswith(f"    {field}: ")]
        assert lines[at + 1].startswith('    """'), field
