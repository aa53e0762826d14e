"""The registry's side of MQTT: its links, and the duties that they feed or carry.

    packhorse-ingest-telemetry ─► Intake ─► ingest      telemetry into rows
    …-reported, …-presence            ├───► presence    reports into device rows
    …-request                         ├───► responder   download offers
    …-parts-wanted                    ├───► part giver  pieces of blobs
    …-result                          └───► commander   what came of commands
      (lasting sessions)
    packhorse-ingest ◄─ publisher, and the answers of those above

What receives stands still while the database cannot keep up; what the registry has to say must go
out all the same, and what carries one channel need not wait for another.
"""

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
from runtime import messages, topics
from runtime.link import Connected, Link, LinkEvent, LinkSettings, Received
from runtime.messages import Ack, Command, FetchResponse
from runtime.retry import Backoff
from runtime.topics import Channel, DeviceId

PUBLISH_CLIENT_ID = CLIENT_ID
"""Its session is a clean one, which ends the lasting one that an older registry left under it."""
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
        self, services: Services, login: BrokerLogin, crew: Crew, *, base_url: str
    ) -> None:
        """`base_url` is where devices download; "": from where they enrolled."""
        self._login, self._crew = login, crew
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
        self._incoming = {
            channel: self._link(
                intake.client_id(channel),
                intake.subscriptions(channel),
                self._intake.put,
                lasting=True,
            )
            for channel in topics.FROM_DEVICE
        }
        self._outgoing = self._link(PUBLISH_CLIENT_ID, (), self._on_outgoing, lasting=False)
        services.notifier.subscribe(Change.DESIRED, self._publisher.wake)

    @property
    def connected(self) -> bool:
        """Whether all links stand."""
        return self._receives and self._outgoing.connected

    @property
    def _receives(self) -> bool:
        return all(link.connected for link in self._incoming.values())

    def start(self) -> None:
        """Start links and duties; returns at once."""
        stopping = self._crew.stopping
        self._crew.start("ingest", lambda: self._ingester.run(stopping))
        self._crew.start("presence", lambda: self._presences.run(stopping))
        self._crew.start("responder", lambda: self._responder.run(stopping))
        self._crew.start("parts", lambda: self._part_giver.run(stopping))
        self._crew.start("publisher", lambda: self._publisher.run(stopping))
        self._outgoing.start()
        for link in self._incoming.values():
            link.start()

    def part(self) -> None:
        """Leave the broker; the crew has been told to stop."""
        self._publisher.wake()
        for link in self._incoming.values():
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
        self._incoming[intake.channel(message.topic)].ack(message)

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
