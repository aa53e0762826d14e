import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paho.mqtt import publish

from edge_agent.worker import sources
from edge_agent.worker.sources import Item, SourceError, Surroundings, mqtt
from runtime import children
from runtime.bundle.index import Signature, TensorSpec
from runtime.errors import InvalidError
from tests.support import brokers, parts

SIGNATURE = Signature(inputs=(TensorSpec("x", "FP32", (-1, 2)),), outputs=())
TWO = Signature(
    inputs=(TensorSpec("a", "FP32", (-1, 1)), TensorSpec("s", "BYTES", (-1,))), outputs=()
)


@contextlib.contextmanager
def local_broker(directory: Path, port: int) -> Iterator[None]:
    """Mosquitto as one runs on a device: localhost, no password, and it keeps its sessions."""
    config = directory / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n"
        f"persistence true\npersistence_location {directory}/\nlog_dest none\n"
    )
    child = children.spawn([parts.require("mosquitto"), "-c", str(config)])
    try:
        brokers.eventually(lambda: brokers.listens(port), "the broker listens")
        yield
    finally:
        child.terminate()
        child.wait(30)


class Reader:
    """Reads a source in a thread, as a pump does."""

    def __init__(self, uri: str) -> None:
        self.items: list[Item] = []
        self.told: list[str] = []
        self._stopping = threading.Event()
        around = Surroundings(
            module="mod",
            signature=SIGNATURE,
            entry=None,
            roots=(),
            stopping=self._stopping,
            tell=self.told.append,
            after_sync=lambda _function: None,
        )
        self._source = sources.open_source(uri, around)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def wait_for(self, count: int) -> list[Item]:
        """Return the items once there are so many."""
        brokers.eventually(lambda: len(self.items) >= count, f"{count} items, {self.told}")
        return self.items

    def wait_told(self, text: str) -> None:
        """Wait for a trouble, or for its end."""
        brokers.eventually(lambda: self.told[-1:] == [text], f"told {text!r}")

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self._thread.join()

    def _read(self) -> None:
        for item in self._source.items(None):
            self.items.append(item)


def send(port: int, topic: str, payload: Any, *, retain: bool = False) -> None:
    """Publish, and return when the broker has it."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload)
    publish.single(topic, data, qos=1, retain=retain, hostname="127.0.0.1", port=port)


def test_messages_of_a_local_broker_are_inputs_also_those_sent_while_nobody_read(
    tmp_path: Path,
) -> None:
    port = brokers.free_port()
    uri = f"mqtt://127.0.0.1:{port}/press/+/vibration"
    with local_broker(tmp_path, port):
        send(port, "press/0/vibration", [0, 0], retain=True)
        reader = Reader(uri)
        reader.wait_told("")
        send(port, "press/1/vibration", [1, 2])
        send(port, "press/1/other", [7, 7])
        send(port, "press/2/vibration", b"no json")
        reader.wait_for(2)
        reader.stop()
        send(port, "press/3/vibration", {"x": [3, 4]})
        again = Reader(uri)
        again.wait_for(1)
        again.stop()

    first, second = reader.items
    assert (first.name, first.error) == ("press/1/vibration", "")
    assert first.inputs is not None
    assert first.inputs["x"].tolist() == [1, 2]
    assert second.name == "press/2/vibration"
    assert "payload" in second.error
    assert [item.name for item in again.items] == ["press/3/vibration"]


def test_a_broker_that_is_away_is_a_trouble_until_it_is_back(tmp_path: Path) -> None:
    port = brokers.free_port()
    reader = Reader(f"mqtt://127.0.0.1:{port}/%23")
    brokers.eventually(lambda: bool(reader.told), "trouble is told")

    with local_broker(tmp_path, port):
        reader.wait_told("")
        reader.stop()

    assert reader.told[0].startswith(f"127.0.0.1:{port}: ")


@pytest.mark.parametrize(
    ("payload", "signature", "wanted"),
    [
        (b"[1, 2]", SIGNATURE, {"x": [1, 2]}),
        (b"[[1, 2]]", SIGNATURE, {"x": [[1, 2]]}),
        (b'{"x": [1, null]}', SIGNATURE, {"x": [1, np.nan]}),
        (b'{"a": 3, "s": "up"}', TWO, {"a": 3, "s": "up"}),
        (
            b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}',
            SIGNATURE,
            {"x": [[1, 2]]},
        ),
    ],
)
def test_payloads_are_inputs(payload: bytes, signature: Signature, wanted: dict[str, Any]) -> None:
    given = mqtt.parse(payload, signature)

    assert set(given) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(given[name], np.array(value, dtype=given[name].dtype))


@pytest.mark.parametrize(
    ("payload", "signature"),
    [
        (b"", SIGNATURE),
        (b"{", SIGNATURE),
        (b"\xff", SIGNATURE),
        (b'"text"', SIGNATURE),
        (b"[1, [2]]", SIGNATURE),
        (b'{"y": 1}', SIGNATURE),
        (b'{"inputs": [1]}', SIGNATURE),
        (b'{"inputs": []}', SIGNATURE),
        (b"[1]", TWO),
        (b'{"a": 1}', TWO),
        (b"[" * 100_000, SIGNATURE),
        (b" " * (mqtt.MAX_PAYLOAD_BYTES + 1), SIGNATURE),
    ],
)
def test_other_payloads_are_refused(payload: bytes, signature: Signature) -> None:
    with pytest.raises(InvalidError):
        mqtt.parse(payload, signature)


@pytest.mark.parametrize(
    "uri",
    [
        "mqtt://localhost",
        "mqtt:///topic",
        "mqtt://localhost:port/topic",
        "mqtt://user:secret@localhost/topic",
        "mqtt://localhost/topic?qos=2",
    ],
)
def test_a_uri_without_broker_or_topic_is_refused(uri: str) -> None:
    nothing: Any = None
    around = Surroundings("mod", SIGNATURE, None, (), threading.Event(), nothing, nothing)

    with pytest.raises(SourceError) as caught:
        sources.open_source(uri, around)

    assert "secret" not in str(caught.value)
