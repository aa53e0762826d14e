from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.registry import desired, downloads
from cloud.registry.downloads import Download
from runtime.errors import InvalidError
from runtime.messages import METERED_ALLOW
from runtime.topics import DeviceId
from tests.support import registries
from tests.support.registries import Registry

DOWNLOAD = {"budget_bytes": 1000, "metered": "allow", "not_before": 5.0, "not_after": 6.0}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.running(tmp_path / "data") as made:
        yield made


def test_a_device_is_told_what_it_may_spend_and_when(registry: Registry) -> None:
    registry.enrol("dev-a")
    registry.register("m", b"model")

    made = registry.post(
        "/api/v1/deployments", {"model": "m", "selector": "all", "download": DOWNLOAD}
    )

    with registry.services.reading() as session:
        wanted = desired.read(session, DeviceId("dev-a"))
    assert wanted is not None
    (module,) = wanted.modules
    assert (module.budget_bytes, module.metered) == (1000, METERED_ALLOW)
    assert (module.not_before, module.not_after) == (5.0, 6.0)
    assert made["download"] == DOWNLOAD
    assert made["capture"] == {"outputs": True, "inputs": 0.0}


def test_without_a_word_there_are_no_limits(registry: Registry) -> None:
    registry.enrol("dev-a")
    registry.register("m", b"model")

    made = registry.post("/api/v1/deployments", {"model": "m", "selector": "all"})

    with registry.services.reading() as session:
        wanted = desired.read(session, DeviceId("dev-a"))
    assert wanted is not None
    assert wanted.modules[0].budget_bytes is None
    assert made["download"]["budget_bytes"] is None


@pytest.mark.parametrize(
    ("download", "field"),
    [
        (Download(budget_bytes=0), "budget_bytes"),
        (Download(metered="yes"), "metered"),
        (Download(not_before=2.0, not_after=1.0), "not_after"),
    ],
)
def test_limits_that_no_download_could_keep_are_refused(download: Download, field: str) -> None:
    with pytest.raises(InvalidError, match=f"download.{field}"):
        downloads.check(download)
