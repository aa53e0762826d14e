"""The registry's side of MQTT: its links, and the duties that they feed or carry.

    packhorse-ingest-telemetry ─► Intake ─► ingest      telemetry into rows
    …-reported, …-presence            ├───► presence    reports into device rows
    …-request                         ├───► responder   download offers
    …-parts-wanted                    └───► part giver  pieces of blobs
      (lasting sessions)
    packhorse-ingest-result-… ───────► commander        what came of commands, to each registry
    packhorse-publish-…      ◄─ publisher, and the answers of those above

What receives stands still while the database cannot keep up; what the registry has to say must go
out all the same, and what carries one channel need not wait for another. Of several registries on
one database one keeps the lasting sessions (cloud.turns); each publishes, and asks devices.
"""

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud.crew import Crew
from cloud.messaging import intake
from cloud.messaging.commands import Commander
from cloud.messaging.ingest import Ingester
from cloud.messaging.intake import CLIENT_ID, Intake
from cloud.messaging.partgiver import PartGiver
from cloud.messaging.presence import Presences
from cloud.messaging.publisher import Publisher
from cloud.messaging.responder import Responder
from cloud.services import Change, Services
from cloud.turns import Turn
from runtime import messages, topics
from runtime.link import Connected, Link, LinkEvent, LinkSettings, Received
from runtime.messages import Ack, Command, FetchResponse
from runtime.retry import Backoff
from runtime.topics import Channel, DeviceId

PUBLISH_CLIENT_ID = "packhorse-publish"
FIRST_S, MOST_S = 0.1, 5.0
"""The registry is one client, and everything waits for it: it comes back fast."""
STOP_S = 2.0


@dataclass(frozen=True)
class BrokerLogin:
    """How the registry itself reaches the broker."""

    host: str
    port: int
    ca_file: Path
    cert_file: Path
    key_file: Path


class Wire:
    """All that the registry does over MQTT; its threads belong to `crew`."""

    def __init__(
        self, services: Services, login: BrokerLogin, crew: Crew, turn: Turn, *, base_url: str
    ) -> None:
        """`base_url` is where devices download; "": from where they enrolled."""
        self._login, self._crew, self._turn = login, crew, turn
        self._publisher = Publisher(services, self._publish_desired)
        self.commander = Commander(self._tell_command)
        self._part_giver = PartGiver(services, tell=self._tell_part)
        self._intake = Intake(
            crew.stopping,
            ack=self._ack,
            now=services.clock.now,
            on_part_wanted=self._part_giver.put,
            on_result=self.commander.hear,
        )
        self._ingester = Ingester(
            services, self._intake.telemetry, ack=self._ack, tell=self._tell_ack
        )
        self._presences = Presences(
            services, self._intake.states, ack=self._ack_all, republish=self._publisher.again
        )
        self._responder = Responder(
            services,
            self._intake.requests,
            base_url=base_url,
            ack=self._ack_requests,
            tell=self._tell_response,
        )
        self._make_links(secrets.token_hex(4))
        services.notifier.subscribe(Change.DESIRED, self._publisher.wake)

    def _make_links(self, own: str) -> None:
        """Make all connections; `own` is what no other registry is called."""
        self._incoming = {
            channel: self._link(
                intake.client_id(channel),
                intake.subscriptions(channel),
                self._intake.put,
                lasting=True,
            )
            for channel in topics.FROM_DEVICE
            if channel is not Channel.RESULT
        }
        # An empty clean session ends the lasting one that an older registry left under its name.
        self._outdated = self._link(CLIENT_ID, (), lambda _event: None, lasting=False)
        self._results = self._link(
            f"{intake.client_id(Channel.RESULT)}-{own}",
            intake.subscriptions(Channel.RESULT),
            self._intake.put,
            lasting=False,
        )
        self._outgoing = self._link(
            f"{PUBLISH_CLIENT_ID}-{own}", (), self._on_outgoing, lasting=False
        )

    @property
    def connected(self) -> bool:
        """Whether all links stand that should."""
        return self._receives and self._outgoing.connected

    @property
    def _receives(self) -> bool:
        lasting = self._turn.waiting or all(link.connected for link in self._incoming.values())
        return lasting and self._results.connected

    def start(self) -> None:
        """Start links and duties; returns at once."""
        stopping = self._crew.stopping
        self._crew.start("ingest", lambda: self._ingester.run(stopping))
        self._crew.start("presence", lambda: self._presences.run(stopping))
        self._crew.start("responder", lambda: self._responder.run(stopping))
        self._crew.start("parts", lambda: self._part_giver.run(stopping))
        self._crew.start("publisher", lambda: self._publisher.run(stopping))
        self._crew.start("hearing", lambda: self._turn.then(self._hear, stopping))
        self._outgoing.start()
        self._results.start()

    def _hear(self, stopping: threading.Event) -> None:
        """Take what devices publish: it is our turn."""
        self._outdated.start()
        for link in self._incoming.values():
            link.start()
        stopping.wait()

    def part(self) -> None:
        """Leave the broker; the crew has been told to stop."""
        self._publisher.wake()
        for link in (*self._incoming.values(), self._outdated, self._results):
            link.stop(STOP_S)
        self._outgoing.stop(STOP_S)

    def health(self) -> dict[str, bool]:
        """Return what works, by name."""
        return {
            "broker_incoming": self._receives,
            "broker_outgoing": self._outgoing.connected,
            "telemetry": not self._ingester.trouble,
        }

    def _link(
        self,
        client_id: str,
        subscriptions: Sequence[tuple[str, int]],
        inbox: Callable[[LinkEvent], None],
        *,
        lasting: bool,
    ) -> Link:
        settings = LinkSettings(
            host=self._login.host,
            port=self._login.port,
            client_id=client_id,
            ca_file=self._login.ca_file,
            cert_file=self._login.cert_file,
            key_file=self._login.key_file,
            clean_session=not lasting,
        )
        backoff = Backoff(FIRST_S, MOST_S)
        return Link(settings, subscriptions=subscriptions, inbox=inbox, backoff=backoff)

    def _on_outgoing(self, event: LinkEvent) -> None:
        if isinstance(event, Connected):
            self._publisher.everything()

    def _ack(self, message: Received) -> None:
        channel = intake.channel(message.topic)
        (self._results if channel is Channel.RESULT else self._incoming[channel]).ack(message)

    def _ack_all(self, messages: Sequence[Received]) -> None:
        for channel in (Channel.REPORTED, Channel.PRESENCE):
            name = f"/{channel.value}"
            self._incoming[channel].ack(*(one for one in messages if one.topic.endswith(name)))

    def _ack_requests(self, messages: Sequence[Received]) -> None:
        self._incoming[Channel.REQUEST].ack(*messages)

    def _publish_desired(self, rows: Sequence[tuple[DeviceId, bytes]]) -> None:
        retained = [(topics.render(device, Channel.DESIRED), body) for device, body in rows]
        self._outgoing.publish_all(retained, retain=True)

    def _tell_ack(self, device: DeviceId, ack: Ack) -> None:
        # QoS 0: a lost Ack costs a repetition, a wait for each would cost every one.
        self._outgoing.publish(topics.render(device, Channel.ACK), messages.encode(ack), qos=0)

    def _tell_command(self, device: DeviceId, command: Command) -> None:
        # QoS 0, as everything that is worth nothing later.
        topic = topics.render(device, Channel.COMMAND)
        self._outgoing.publish(topic, messages.encode(command), qos=0)

    def _tell_part(self, device: DeviceId, piece: bytes) -> None:
        self._outgoing.publish(topics.render(device, Channel.PART_GIVEN), piece, qos=0)

    def _tell_response(self, device: DeviceId, response: FetchResponse) -> None:
        payload = messages.encode(response)
        self._outgoing.publish(topics.render(device, Channel.RESPONSE), payload, qos=0)
