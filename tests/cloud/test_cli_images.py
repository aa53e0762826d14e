"""`packhorse services build`, up to where an engine is needed."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cloud.cli import building_images
from runtime.containers.errors import EngineUnreachableError
from runtime.errors import InvalidError
from tests.support import bundle_sources

app = typer.Typer()
app.command()(building_images.build)


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("unix:///nowhere/docker.sock", EngineUnreachableError, "start the engine"),
        ("tcp://127.0.0.1:1", InvalidError, "without TLS is anybody's"),
    ],
)
def test_an_engine_that_cannot_be_used_is_named(
    tmp_path: Path, url: str, error: type[Exception], said: str
) -> None:
    bundle = bundle_sources.write_bundle(tmp_path / "b")

    ran = CliRunner().invoke(app, [str(bundle), "--docker-host", url])

    assert isinstance(ran.exception, error)
    assert said in str(ran.exception)
