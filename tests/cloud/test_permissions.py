import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.broker import permissions
from cloud.broker.permissions import BrokerFiles
from runtime import batches, link, topics
from runtime.errors import InvalidError
from runtime.topics import DeviceId

FILES = BrokerFiles(*(Path(f"/data/{name}") for name in ("js", "log", "ca", "cert", "key")))
DEVICES = st.dictionaries(
    st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True).map(DeviceId),
    st.integers(1, (1 << 159) - 1).map("{:x}".format),
    max_size=8,
)


def _users(text: str) -> dict[str, dict[str, list[str]]]:
    found = re.findall(r'\{user: ("[^"]*"), permissions: (\{.*\}), allowed_connection', text)
    return {
        json.loads(name): {what: right["allow"] for what, right in json.loads(rights).items()}
        for name, rights in found
    }


def _config(devices: Mapping[str, str]) -> str:
    wanted = {DeviceId(device): serial for device, serial in devices.items()}
    return permissions.config(FILES, host="127.0.0.1", port=8883, devices=wanted)


@given(devices=DEVICES)
def test_every_device_is_a_user_and_there_is_no_other_but_the_registry(
    devices: dict[str, str],
) -> None:
    users = _users(_config(devices))

    assert set(users) == {
        "CN=_registry", *(f"CN={name},SERIALNUMBER={serial}" for name, serial in devices.items())
    }  # fmt: skip


@given(devices=DEVICES.filter(bool))
def test_no_right_of_a_device_holds_a_wildcard_or_names_another(
    devices: dict[str, str],
) -> None:
    users = _users(_config(devices))

    for device, serial in devices.items():
        rights = users[f"CN={device},SERIALNUMBER={serial}"]
        subjects = {*rights["publish"], *rights["subscribe"]} - {"$MQTT.sub.>"}
        assert all(device in subject.split(".") for subject in subjects)
        assert not any(wild in subject for subject in subjects for wild in "*>+#$/")


def test_a_device_may_say_and_hear_this_and_nothing_else() -> None:
    assert _users(_config({"dev-a": "1f"}))["CN=dev-a,SERIALNUMBER=1f"] == {
        "publish": [
            "ph.1.dev-a.reported",
            "ph.1.dev-a.presence",
            "ph.1.dev-a.request",
            "ph.1.dev-a.parts.wanted",
            "ph.1.dev-a.result",
            f"ph.1.{topics.shard_of(DeviceId('dev-a'))}.telemetry.dev-a",
        ],
        "subscribe": [
            "ph.1.dev-a.desired",
            "ph.1.dev-a.response",
            "ph.1.dev-a.parts.given",
            "ph.1.dev-a.ack",
            "ph.1.dev-a.command",
            "$MQTT.sub.>",
        ],
    }


@pytest.mark.parametrize("name", ["_registry", 'x"}', "a.b", "*", ">", "", "A"])
def test_what_is_no_device_id_never_gets_into_the_configuration(name: str) -> None:
    with pytest.raises(InvalidError, match="device"):
        _config({name: "1f"})


@pytest.mark.parametrize("serial", ["", "1F", "0x1f", "1f,CN=_registry", '1f"', "*", "1" * 41])
def test_nor_does_what_is_no_serial_number(serial: str) -> None:
    with pytest.raises(InvalidError, match="certificate serial"):
        _config({"dev-a": serial})


def test_the_same_devices_in_any_order_give_the_same_text() -> None:
    assert _config({"b": "2", "a": "1"}) == _config({"a": "1", "b": "2"})


def test_paths_with_quotes_are_quoted() -> None:
    odd = BrokerFiles(*(Path('/data/"x y"/é') for _ in range(5)))

    text = permissions.config(odd, host="::1", port=1, devices={})

    assert r'store_dir: "/data/\"x y\"/é"' in text


def test_what_a_link_may_send_the_broker_takes() -> None:
    assert permissions.MAX_PAYLOAD_BYTES > link.MAX_PAYLOAD_BYTES > batches.MAX_BATCH_BYTES
