"""`mqtt://HOST[:PORT]/TOPIC/FILTER` (or mqtts://): messages of a local broker, one input each.

`+` and `#` in the filter are the wildcards of MQTT. With mqtts, `?ca=PATH` names the certificates
to trust; else the system's. A message is JSON in one of these shapes:

    {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    {"x": [1, 2], "y": 3}        values by input name; a missing batch dimension is added
    [1, 2]                       values of the model's one input

The session is kept by the broker and a message is acknowledged once its record is written: one
published with QoS 1 is recorded at least once, also over restarts. A retained message is skipped:
it tells of the past, and would be counted again at each start.
"""

import logging
import queue
import zlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from edge_agent.worker.sources import Item, SourceError, Surroundings, options
from runtime import link
from runtime.bundle.index import Signature
from runtime.errors import InvalidError
from runtime.inference import tensors
from runtime.inference.tensors import Arrays, TensorIn
from runtime.retry import Backoff

log = logging.getLogger(__name__)

PORTS = {"mqtt": 1883, "mqtts": 8883}
MAX_PAYLOAD_BYTES = 1 << 20
MAX_WAITING = 1000
"""Messages in memory; more are dropped here, and come again after a reconnect if of QoS 1."""
LOOK_S = 0.5
MOST_WAIT_S = 30.0


class MqttSource:
    """A subscription on a local broker."""

    def __init__(self, settings: link.LinkSettings, topic: str, around: Surroundings) -> None:
        self._settings, self._topic, self._around = settings, topic, around
        self._events: queue.Queue[link.LinkEvent] = queue.Queue(MAX_WAITING)
        self._dropped = 0

    def items(self, position: str | None) -> Generator[Item, None, None]:
        """Yield one item per message; the broker, not `position`, knows where to go on."""
        del position
        broker = link.Link(
            self._settings,
            subscriptions=[(self._topic, 1)],
            inbox=self._take,
            backoff=Backoff(most_s=MOST_WAIT_S),
        )
        broker.start()
        try:
            while not self._around.stopping.is_set():
                try:
                    event = self._events.get(timeout=LOOK_S)
                except queue.Empty:
                    continue
                yield from self._handle(broker, event)
        finally:
            broker.stop()

    def _take(self, event: link.LinkEvent) -> None:
        try:
            self._events.put_nowait(event)
        except queue.Full:
            self._dropped += 1
            if self._dropped == 1:
                log.warning("messages come faster than they are read", extra={"topic": self._topic})

    def _handle(self, broker: link.Link, event: link.LinkEvent) -> Iterator[Item]:
        match event:
            case link.Connected():
                self._around.tell("")
            case link.Disconnected():
                self._around.tell(f"{self._settings.host}:{self._settings.port}: {event.reason}")
            case link.Received():
                if not event.retained:
                    yield self._item(event)
                broker.ack(event)

    def _item(self, message: link.Received) -> Item:
        try:
            inputs = parse(message.payload, self._around.signature)
        except InvalidError as error:
            return Item(name=message.topic, inputs=None, error=str(error))
        return Item(name=message.topic, inputs=inputs)


def parse(payload: bytes, signature: Signature) -> Mapping[str, Any]:
    """Return a message's inputs; raise InvalidError if it is none of the shapes above."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise InvalidError("payload", f"{len(payload)} bytes", f"send at most {MAX_PAYLOAD_BYTES}")
    try:
        value: Any = msgspec.json.decode(payload)
        if isinstance(value, dict) and isinstance(value.get("inputs"), list):
            return _protocol(msgspec.convert(value["inputs"], list[TensorIn]), signature)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise InvalidError("payload", payload[:80], str(error)) from error
    except RecursionError as error:
        raise InvalidError("payload", payload[:80], "it is nested too deeply") from error
    if not isinstance(value, dict):
        if len(signature.inputs) != 1:
            names = ", ".join(spec.name for spec in signature.inputs)
            raise InvalidError("payload", payload[:80], f"send an object with {names}")
        value = {signature.inputs[0].name: value}
    specs = {spec.name: spec for spec in signature.inputs}
    tensors.require_names(value, specs)
    return {
        name: tensors.from_values(f"payload[{name}]", values, specs[name].datatype)
        for name, values in value.items()
    }


def _protocol(given: list[TensorIn], signature: Signature) -> Arrays:
    specs = {spec.name: spec for spec in signature.inputs}
    tensors.require_names([tensor.name for tensor in given], specs)
    return {tensor.name: tensors.decode(tensor, specs[tensor.name]) for tensor in given}


def open_source(uri: str, around: Surroundings) -> MqttSource:
    """Return the source; raise SourceError if the URI names no broker or no topic."""
    # '#' is a wildcard here, and no fragment.
    parts = urlsplit(uri.replace("#", "%23"))
    given = options(uri, parts, ("ca",))
    topic = unquote(parts.path.removeprefix("/"))
    try:
        port = parts.port or PORTS[parts.scheme]
    except ValueError as error:
        raise SourceError(f"{uri}: {error}") from error
    if not parts.hostname or not topic:
        raise SourceError(f"{uri}: name a broker and a topic: mqtt://localhost/sensors/#")
    if parts.username or parts.password:
        raise SourceError(f"{parts.scheme}://{parts.hostname}: leave out the password: it is shown")
    settings = link.LinkSettings(
        host=parts.hostname,
        port=port,
        client_id=f"ph-{around.module[:12]}-{zlib.crc32(uri.encode()):08x}",
        ca_file=Path(given["ca"]) if "ca" in given else None,
        clean_session=False,
        tls=parts.scheme == "mqtts",
    )
    return MqttSource(settings, topic, around)
