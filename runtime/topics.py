"""MQTT topics as values: rendered and parsed here, joined nowhere else.

    ph/1/{device}/desired            to the device, retained    what it shall run
    ph/1/{device}/reported           from the device            what it runs, and why not more
    ph/1/{device}/presence           from the device, retained  online or offline (last will)
    ph/1/{device}/request            from the device            asks for download offers
    ph/1/{device}/response           to the device              answers one request
    ph/1/{device}/ack                to the device              which batches are durable
    ph/1/{device}/parts/wanted       from the device            asks for a piece of a blob
    ph/1/{device}/parts/given        to the device              the piece
    ph/1/{device}/command            to the device              asks for one act, now or never
    ph/1/{device}/result             from the device            what came of a command
    ph/1/{shard}/telemetry/{device}  from the device            one batch of records

Specified in docs/specs/mqtt.md.
"""

import enum
import functools
import re
import zlib
from dataclasses import dataclass
from typing import NewType

from runtime.errors import InvalidError

DeviceId = NewType("DeviceId", str)
"""1 to 63 of a-z, 0-9 and '-'."""

ROOT = "ph/1"
SHARDS = 16
REGISTRY_USER = "_registry"
"""The registry's own name on the broker; no device id can contain '_'."""

_DEVICE = re.compile(r"[a-z0-9-]{1,63}")


class Channel(enum.Enum):
    """What a topic of one device carries; the value is its name on the wire."""

    DESIRED = "desired"
    REPORTED = "reported"
    PRESENCE = "presence"
    REQUEST = "request"
    RESPONSE = "response"
    PART_WANTED = "parts/wanted"
    PART_GIVEN = "parts/given"
    ACK = "ack"
    COMMAND = "command"
    RESULT = "result"
    TELEMETRY = "telemetry"


FROM_DEVICE = (
    Channel.REPORTED,
    Channel.PRESENCE,
    Channel.REQUEST,
    Channel.PART_WANTED,
    Channel.RESULT,
    Channel.TELEMETRY,
)
TO_DEVICE = (
    Channel.DESIRED,
    Channel.RESPONSE,
    Channel.PART_GIVEN,
    Channel.ACK,
    Channel.COMMAND,
)
RETAINED = (Channel.DESIRED, Channel.PRESENCE)


@dataclass(frozen=True)
class Topic:
    """One device's channel."""

    device: DeviceId
    channel: Channel


def device_id(text: object, field: str = "device") -> DeviceId:
    """Return `text` as a device id; raise InvalidError if it is none."""
    if not isinstance(text, str) or not _DEVICE.fullmatch(text):
        raise InvalidError(field, text, "use 1 to 63 of a-z, 0-9 and '-'")
    return DeviceId(text)


def shard_of(device: DeviceId) -> str:
    """Return the telemetry shard of a device: stable for ever, spread evenly."""
    return f"s{zlib.crc32(device.encode()) % SHARDS:02d}"


def render(device: DeviceId, channel: Channel) -> str:
    """Return the topic to publish on."""
    if channel is Channel.TELEMETRY:
        return f"{ROOT}/{shard_of(device)}/telemetry/{device}"
    return f"{ROOT}/{device}/{channel.value}"


def every_device(channel: Channel) -> str:
    """Return the filter that matches this channel of every device (for the registry)."""
    return f"{ROOT}/+/telemetry/+" if channel is Channel.TELEMETRY else f"{ROOT}/+/{channel.value}"


@functools.lru_cache(maxsize=16_384)  # a device's few topics come again with all it says
def parse(text: str) -> Topic:
    """Return what a received topic names; raise InvalidError if it is none of ours."""
    levels = text.split("/")
    match levels:
        case ["ph", "1", _, "telemetry", device]:
            topic = Topic(device_id(device), Channel.TELEMETRY)
        case ["ph", "1", device, *rest] if (channel := "/".join(rest)) in _CHANNELS:
            topic = Topic(device_id(device), Channel(channel))
        case _:
            raise InvalidError("topic", text, "see docs/specs/mqtt.md")
    if render(topic.device, topic.channel) != text:
        raise InvalidError("topic", text, "the shard is not this device's")
    return topic


_CHANNELS = {channel.value for channel in Channel if channel is not Channel.TELEMETRY}
