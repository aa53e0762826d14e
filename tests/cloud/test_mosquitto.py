from dataclasses import replace
from pathlib import Path

import pytest

from cloud.broker import mosquitto, permissions
from cloud.trust.authority import Authority
from runtime import topics
from runtime.errors import InvalidError
from runtime.link import Disconnected
from runtime.topics import Channel, DeviceId
from tests.support import brokers
from tests.support.brokers import SHIPPED
from tests.support.links import Mailbox, linked, refusal

CONF = (SHIPPED / "mosquitto.conf").read_text()


def _values(tmp_path: Path) -> dict[str, str]:
    return mosquitto.values(
        Authority.open(tmp_path / "authority"),
        host="127.0.0.1",
        port=1234,
        acl=SHIPPED / "acl",
        state=tmp_path,
        user="root",
    )


def test_only_paths_port_and_user_differ_from_what_is_shipped(tmp_path: Path) -> None:
    values = _values(tmp_path)

    changed = mosquitto.configured(CONF, values)

    pairs = list(zip(CONF.splitlines(), changed.splitlines(), strict=True))
    assert {old.split()[0] for old, new in pairs if old != new} == set(values)
    assert "listener 1234 127.0.0.1" in changed


@pytest.mark.parametrize(
    "line",
    [
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
        "tls_version tlsv1.2",
        "crlfile /etc/packhorse/broker/crl.pem",
    ],
)
def test_what_keeps_strangers_out_is_shipped(line: str) -> None:
    assert line in CONF.splitlines()


def test_both_brokers_take_a_full_batch() -> None:
    (size,) = [line for line in CONF.splitlines() if line.startswith("max_packet_size")]

    assert int(size.split()[1]) >= permissions.MAX_PAYLOAD_BYTES


@pytest.mark.parametrize(
    ("shipped", "value", "said"),
    [
        ("listener 1\n", "x", "must stand there once"),
        ("user a\nuser b\n", "x", "must stand there once"),
        ("user a\n", "x\nallow_anonymous true", "without line breaks"),
    ],
)
def test_what_cannot_be_put_in_is_refused(shipped: str, value: str, said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        mosquitto.configured(shipped, {"user": value})


def test_it_reads_the_list_of_revoked_ones_at_a_sighup_and_cuts_who_is_in_at_a_restart_only(
    tmp_path: Path,
) -> None:
    """What docs/operations.md tells to do; the embedded broker does it by itself."""
    reported = topics.render(DeviceId("dev-a"), Channel.REPORTED)
    inbox, heard = Mailbox(), Mailbox()
    with (
        brokers.mosquitto(tmp_path) as broker,
        linked(broker.settings("dev-a"), inbox) as device,
        linked(broker.settings(topics.REGISTRY_USER), heard, subscriptions=[(reported, 1)]),
    ):
        again = replace(broker.settings("dev-a"), client_id="dev-a-again")
        broker.authority.revoke([broker.serial("dev-a")])
        with linked(again, Mailbox()):
            pass

        broker.reload()
        assert refusal(again, "refused this certificate")
        device.publish(reported, b"still in")
        assert heard.message(reported).payload == b"still in"
        assert not any(isinstance(event, Disconnected) for event in inbox.events)

        broker.restart()
        inbox.wait(Disconnected, lambda event: "refused this certificate" in event.reason)
