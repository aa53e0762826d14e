"""Events on their way out of a registry that is killed: to webhooks, and to who follows them."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cloud import shapes
from tests.support import parts, processes, receivers
from tests.support.processes import Command, Registry, eventually

KIND = "token.created"


@pytest.fixture
def place() -> Iterator[Path]:
    parts.require("nats-server")
    with processes.scratch() as made:
        yield made


@pytest.fixture
def registry(place: Path) -> Iterator[Registry]:
    allowed = {"PACKHORSE_WEBHOOK_NETWORKS": "127.0.0.0/8"}
    with processes.registry(place, environment=allowed) as running:
        yield running


def tell(registry: Registry, count: int = 1) -> None:
    """Make events of KIND."""
    with registry.client() as client:
        for _ in range(count):
            client.make_token(shapes.NewToken(labels={}))


def told(registry: Registry) -> list[int]:
    """Return the ids of all events of KIND, in order."""
    with registry.client() as client:
        return [event.id for event in client.events(kind=[KIND])]


def test_a_webhook_is_told_of_every_event_though_the_registry_was_killed(
    registry: Registry,
) -> None:
    with receivers.receiving() as receiver:
        with registry.client() as client:
            client.add_webhook(shapes.NewWebhook.make(url=receiver.url, kinds=[KIND]))
        receiver.answering.clear()
        tell(registry, 3)
        eventually(lambda: len(receiver.got) == 1, "the first is under way")

        registry.kill()
        receiver.answering.set()
        registry.start()
        eventually(lambda: len(receiver.got) == 4, "all are told")
    first, second, third = told(registry)
    identities = [message.headers["webhook-id"] for message in receiver.got]

    # The one whose answer was lost is sent again, by the same id; the others follow in order.
    assert [message.event["data"]["id"] for message in receiver.got] == [
        first, first, second, third,
    ]  # fmt: skip
    assert identities[0] == identities[1]
    assert len(set(identities)) == 3


def test_who_follows_the_events_is_told_of_each_once_though_the_registry_was_killed(
    registry: Registry, place: Path
) -> None:
    follower = Command(
        "packhorse",
        ["events", "--follow", "--after", "0", "--kind", "token.*", "--json"],
        place / "follower.log",
    )
    follower.environment = {
        "PACKHORSE_URL": registry.url,
        "PACKHORSE_KEY": registry.key,
        "PACKHORSE_CA": str(registry.data / "authority" / "ca.pem"),
        "PACKHORSE_CONFIG": str(place / "login.json"),
    }

    def shown(count: int) -> bool:
        return len(follower.tail().splitlines()) >= count or not follower.runs

    tell(registry)
    follower.spawn()
    eventually(lambda: shown(1), "what was before is shown")
    tell(registry)
    eventually(lambda: shown(2), "what happens is shown")
    registry.kill()
    registry.start()
    tell(registry)
    eventually(lambda: shown(3), "it goes on")
    psutil.Process(follower.pid).send_signal(signal.SIGINT)
    eventually(lambda: not follower.runs, "Ctrl-C ends it")
    lines = follower.tail().splitlines()

    assert [json.loads(line)["id"] for line in lines] == told(registry)
