import socket
from pathlib import Path

import pytest

from cloud import endpoints
from cloud.endpoints import Endpoints
from cloud.settings import Settings
from runtime import datalock
from runtime.errors import InUseError, InvalidError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtts://broker.example:1234", ("broker.example", 1234)),
        ("mqtts://broker.example", ("broker.example", 8883)),
        ("mqtts://[::1]:1/", ("::1", 1)),
    ],
)
def test_an_external_broker_is_read_from_its_url(url: str, expected: tuple[str, int]) -> None:
    assert endpoints.broker_of(url) == expected


@pytest.mark.parametrize(
    "url", ["broker.example:8883", "mqtt://b", "mqtts://b:99999", "mqtts://b/x", "mqtts://"]
)
def test_a_broker_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(InvalidError, match="mqtts://host:port"):
        endpoints.broker_of(url)


def test_the_certificate_names_what_devices_will_ask_for(tmp_path: Path) -> None:
    chosen = Settings(
        data=tmp_path,
        host="10.0.0.5",
        public_names=("a.example",),
        public_url="https://b.example:8443",
        broker_public_host="c.example",
    )

    assert set(endpoints.certificate_names(chosen)) == {
        "10.0.0.5", "a.example", "b.example", "c.example"
    }  # fmt: skip


def test_the_url_is_one_that_can_be_reached(tmp_path: Path) -> None:
    assert endpoints.base_url(Settings(data=tmp_path), 1) == "https://127.0.0.1:1"
    assert endpoints.base_url(Settings(data=tmp_path, host="::1"), 1) == "https://[::1]:1"
    anywhere = Settings(data=tmp_path, host="::")
    assert endpoints.base_url(anywhere, 1) == f"https://{socket.gethostname()}:1"


def test_what_was_is_remembered_unless_it_is_damaged(tmp_path: Path) -> None:
    place = Endpoints("https://h:1", "h", 2, 3, 1)
    assert endpoints.remembered(tmp_path) is None
    endpoints.remember(tmp_path, place)
    assert endpoints.remembered(tmp_path) == place

    (tmp_path / "run" / "endpoints.json").write_text("{")
    assert endpoints.remembered(tmp_path) is None


def test_the_last_port_is_taken_again_if_it_is_free() -> None:
    with endpoints.listen("127.0.0.1", 0, last=0) as first:
        port = first.getsockname()[1]
        with endpoints.listen("127.0.0.1", 0, last=port) as other:
            assert other.getsockname()[1] != port
        with pytest.raises(InvalidError, match=str(port)):
            endpoints.listen("127.0.0.1", port, last=0)

    assert endpoints.free_port("127.0.0.1", last=port) == port


def test_a_data_directory_has_one_owner(tmp_path: Path) -> None:
    with (
        datalock.held(tmp_path),
        pytest.raises(InUseError, match="process"),
        datalock.held(tmp_path),
    ):
        pass
    with datalock.held(tmp_path):
        pass
