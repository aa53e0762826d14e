"""Who may do what on the embedded broker, as NATS configuration; pure.

NATS sees an MQTT topic as a subject: '/' becomes '.', '+' becomes '*'. A user is the subject of a
client certificate, and may touch only what its list allows. So nothing needs to be forbidden by
name: JetStream's API, the system account, inboxes and other devices are simply not on the list.

A device's subject holds the number of its certificate, and the whole subject must match. So the
list names certificates, not devices: one that was replaced is nobody.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime import batches, topics
from runtime.errors import InvalidError
from runtime.topics import Channel, DeviceId

MAX_PAYLOAD_BYTES = batches.MAX_BATCH_BYTES + 8192
"""A full batch, its topic and header; larger than any link sends."""
MAX_CONTROL_LINE_BYTES = 4096
MAX_PENDING_BYTES = 32 * 1024 * 1024
"""For one client that reads too slowly; beyond that it is dropped, and comes back."""
MAX_CONNECTIONS = 64 * 1024
MAX_UNACKED = 256
"""QoS 1 messages that one session may hold back: a bound on what an ingester keeps in memory."""
STORE_BYTES = 2 * 1024 * 1024 * 1024
MEMORY_STORE_BYTES = 64 * 1024 * 1024
LOG_BYTES = 8 * 1024 * 1024

_QOS1_REPLIES = "$MQTT.sub.>"
"""Where NATS delivers to a QoS 1 subscription; its subjects cannot be guessed or subscribed to."""
_SERIAL = re.compile(r"[0-9a-f]{1,40}")


@dataclass(frozen=True)
class BrokerFiles:
    """Paths that the broker reads and writes."""

    store: Path
    log: Path
    ca: Path
    cert: Path
    key: Path


def config(files: BrokerFiles, *, host: str, port: int, devices: Mapping[DeviceId, str]) -> str:
    """Return the whole configuration of nats-server, with MQTT at `host` and `port`.

    `devices` says which certificate of a device is good, by its serial number (hexadecimal).
    NATS' own protocol cannot be switched off. It listens on loopback, on some free port, wants a
    certificate as well, and no user is allowed to use it.
    """
    users = ",\n".join(f"    {user}" for user in _users(devices))
    return f"""# Written by packhorse serve; changes are overwritten.
server_name: packhorse
listen: {_quoted("127.0.0.1:-1")}
{_tls(files)}
log_file: {_quoted(files.log)}
logfile_size_limit: {LOG_BYTES}
logfile_max_num: 3
max_payload: {MAX_PAYLOAD_BYTES}
max_pending: {MAX_PENDING_BYTES}
max_control_line: {MAX_CONTROL_LINE_BYTES}
max_connections: {MAX_CONNECTIONS}
write_deadline: "10s"
lame_duck_grace_period: "1s"
lame_duck_duration: "30s"
{_store(files)}
mqtt {{
  listen: {_quoted(f"{host}:{port}")}
  {_tls(files)}
  # What an ingester left unacknowledged when it died comes again after this time.
  ack_wait: "10s"
  max_ack_pending: {MAX_UNACKED}
}}
authorization {{
  users: [
{users}
  ]
}}
"""


def _store(files: BrokerFiles) -> str:
    return f"""jetstream {{
  store_dir: {_quoted(files.store)}
  max_file_store: {STORE_BYTES}
  max_memory_store: {MEMORY_STORE_BYTES}
  # Seldom on purpose: what a power cut takes from the broker comes again. Desired state is
  # published anew at each connect, batches are sent until the registry says that it stored them.
  sync_interval: "2m"
}}"""


def _users(devices: Mapping[DeviceId, str]) -> Iterable[str]:
    everything = ["ph.>", "$MQTT.>"]
    yield _user(f"CN={topics.REGISTRY_USER}", publish=everything, subscribe=everything)
    for device, serial in sorted(devices.items()):
        yield _device(topics.device_id(device), serial)


def _device(device: DeviceId, serial: str) -> str:
    if not _SERIAL.fullmatch(serial):
        raise InvalidError("certificate serial", serial, "give up to 40 of 0-9 and a-f")
    return _user(
        f"CN={device},SERIALNUMBER={serial}",
        publish=[_subject(device, channel) for channel in topics.FROM_DEVICE],
        subscribe=[*(_subject(device, channel) for channel in topics.TO_DEVICE), _QOS1_REPLIES],
    )


def _user(subject: str, *, publish: Sequence[str], subscribe: Sequence[str]) -> str:
    rights = json.dumps({"publish": {"allow": publish}, "subscribe": {"allow": subscribe}})
    return (
        f'{{user: {_quoted(subject)}, permissions: {rights}, allowed_connection_types: ["MQTT"]}}'
    )


def _subject(device: DeviceId, channel: Channel) -> str:
    # '.' occurs neither in device ids nor in our topics, so this has no special cases.
    return topics.render(device, channel).replace("/", ".")


def _tls(files: BrokerFiles) -> str:
    return (
        f"tls {{ cert_file: {_quoted(files.cert)}, key_file: {_quoted(files.key)}, "
        f"ca_file: {_quoted(files.ca)}, verify_and_map: true, timeout: 5 }}"
    )


def _quoted(value: object) -> str:
    """Return a string of NATS' configuration language: JSON's quoting is a part of it."""
    return json.dumps(str(value), ensure_ascii=False)
