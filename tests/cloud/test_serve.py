import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509

from cloud import shapes
from edge_agent import enrol as agent_enrol
from runtime import tls
from runtime.link import LinkSettings
from tests.support import brokers, bundles, parts, processes
from tests.support.links import Mailbox, linked, refusal
from tests.support.processes import Command, Registry, eventually


@pytest.fixture
def place() -> Iterator[Path]:
    parts.require("nats-server")
    with processes.scratch() as made:
        yield made


@pytest.fixture
def registry(place: Path) -> Iterator[Registry]:
    with processes.registry(place) as running:
        yield running


def health(registry: Registry) -> tuple[int, dict[str, Any]]:
    context: ssl.SSLContext = tls.client_context(ca_pem=registry.ca_pem)
    connection = http.client.HTTPSConnection(brokers.HOST, registry.port, context=context)
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body


def test_it_says_where_it_is_and_shows_the_admin_key_once(registry: Registry) -> None:
    eventually(lambda: "packhorse login" in registry.tail(), "it has said how to log in")
    said = registry.tail()

    assert f"Registry ready at {registry.url}" in said
    assert "MQTT broker at mqtts://127.0.0.1:" in said
    assert "packhorse login" in said
    assert said.count(registry.key) == 1

    registry.stop()
    registry.start()

    assert registry.tail().count(registry.key) == 1


def test_all_its_parts_are_well(registry: Registry) -> None:
    status, body = health(registry)

    assert status == 200, body
    assert {"http", "ingest", "publisher", "broker", "broker_incoming"} <= set(body["duties"])


def test_a_second_one_on_the_same_data_says_who_has_it(registry: Registry) -> None:
    second = Command("packhorse", ["serve", "--data", str(registry.data)], registry.log)

    with pytest.raises(AssertionError, match=f"in use by process {registry.pid}"):
        second.run()


def test_a_client_that_stays_connected_and_asks_nothing_does_not_hold_up_the_end(
    registry: Registry,
) -> None:
    context: ssl.SSLContext = tls.client_context(ca_pem=registry.ca_pem)
    idle = http.client.HTTPSConnection(brokers.HOST, registry.port, context=context)
    idle.request("GET", "/healthz")
    idle.getresponse().read()

    assert registry.stop() == 0

    assert "graceful shutdown exceeded" not in registry.tail()
    idle.close()


def test_a_port_that_is_taken_is_named(place: Path) -> None:
    with socket.create_server((brokers.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        blocked = Command(
            "packhorse", ["serve", "--data", str(place / "r"), "--port", str(port)], place / "log"
        )

        with pytest.raises(AssertionError, match=rf"127\.0\.0\.1:{port}.*in use"):
            blocked.run()


def test_it_goes_on_where_it_was_killed(registry: Registry, tmp_path: Path) -> None:
    key, ca = registry.key, registry.ca_pem
    with registry.client() as client:
        processes.push(client, bundles.write(tmp_path))
    children = registry.descendants("nats-server")

    registry.kill()
    eventually(lambda: not any(_runs(child) for child in children), "its broker died with it")
    registry.start()

    assert (registry.key, registry.ca_pem) == (key, ca)
    with registry.client() as client:
        assert client.version("scale").version == 1


def test_free_ports_are_found_again_after_a_restart(place: Path) -> None:
    """Devices know the ports by heart."""
    served = Command(
        "packhorse",
        ["serve", "--data", str(place / "r"), "--port", "0", "--broker-port", "0"],
        place / "log",
    )
    found = []
    for _ in range(2):
        served.spawn()
        eventually(lambda: _endpoints(place / "r").get("pid") == served.pid, "it is ready")
        endpoints = _endpoints(place / "r")
        found.append((endpoints["url"], endpoints["broker_port"]))
        assert served.stop() == 0

    assert found[0] == found[1]


def test_it_ends_in_peace_and_leaves_nothing_behind(registry: Registry) -> None:
    children = registry.descendants("nats-server")
    assert children

    assert registry.stop() == 0

    assert not any(_runs(child) for child in children)
    assert "Traceback" not in registry.tail()


def test_a_broker_that_is_killed_comes_back_and_health_tells_the_truth(place: Path) -> None:
    with processes.registry(place, "mosquitto") as registry:
        assert registry.mosquitto is not None
        registry.mosquitto.stop()
        eventually(lambda: health(registry)[0] == 503, "it is unwell")
        assert health(registry)[1]["duties"]["broker_incoming"] is False

        registry.mosquitto.start()
        eventually(lambda: health(registry)[0] == 200, "it is well again")


def test_its_secrets_are_readable_by_nobody_else(registry: Registry) -> None:
    names = ["secrets/admin.key", "secrets/presign.key", "authority/ca.key", "registry.db"]

    assert {name: oct((registry.data / name).stat().st_mode & 0o777) for name in names} == (
        dict.fromkeys(names, "0o600")
    )


def enrol(registry: Registry, data: Path, *, device: str, token_for: str | None) -> LinkSettings:
    """Enrol as a device does; return how it connects."""
    with registry.client() as client:
        token = client.make_token(shapes.NewToken(device_id=token_for)).token
    identity = agent_enrol.enrol(data, url=registry.url, token=token, device_id=device, facts={})
    return LinkSettings(
        host=identity.broker_host,
        port=identity.broker_port,
        client_id=device,
        ca_file=data / "identity/ca.pem",
        cert_file=data / "identity/device.pem",
        key_file=data / "identity/device.key",
    )


def serial(settings: LinkSettings) -> int:
    assert settings.cert_file is not None
    return x509.load_pem_x509_certificate(settings.cert_file.read_bytes()).serial_number


def revoked(registry: Registry) -> set[int]:
    crl = x509.load_pem_x509_crl((registry.data / "authority/crl.pem").read_bytes())
    return {entry.serial_number for entry in crl}


def test_the_list_of_revoked_ones_is_new_when_the_registry_answers(place: Path) -> None:
    """Whoever runs a broker of their own copies it from there."""
    with processes.registry(place, "mosquitto") as registry, registry.client() as client:
        first = enrol(registry, place / "a", device="dev-a", token_for=None)
        assert revoked(registry) == set()

        second = enrol(registry, place / "b", device="dev-a", token_for="dev-a")
        assert revoked(registry) == {serial(first)}

        client.revoke("dev-a")
        assert revoked(registry) == {serial(first), serial(second)}

        # Killed after a commit and before this file is written, the next start writes it.
        registry.kill()
        (registry.data / "authority/crl.pem").unlink()
        registry.start()
        assert revoked(registry) == {serial(first), serial(second)}


@pytest.mark.parametrize("kind", ["nats", "mosquitto"])
def test_the_certificate_of_a_device_that_enrolled_again_is_worth_nothing(
    place: Path, kind: str
) -> None:
    with processes.registry(place, kind) as registry, registry.client() as client:
        first = enrol(registry, place / "a", device="dev-a", token_for=None)
        with linked(first, Mailbox()):
            pass
        client.revoke("dev-a")
        second = enrol(registry, place / "b", device="dev-a", token_for="dev-a")
        if registry.mosquitto is not None:
            registry.mosquitto.reload()  # as docs/operations.md has operators do

        assert refusal(first, "refused this certificate")
        with linked(second, Mailbox()):
            pass


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _endpoints(data: Path) -> dict[str, Any]:
    path = data / "run" / "endpoints.json"
    return json.loads(path.read_text()) if path.exists() else {}
