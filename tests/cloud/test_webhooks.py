import base64
import contextlib
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import select

from cloud import tables
from cloud.webhooks import addresses, post, schedule, signing
from cloud.webhooks import sender as senders
from cloud.webhooks.schedule import Schedule, Then, Tried
from cloud.webhooks.sender import LOOK_S, Sender
from runtime import tls
from runtime.errors import InvalidError
from tests.support import receivers, registries
from tests.support.brokers import eventually
from tests.support.documents import ROOT
from tests.support.receivers import Receiver
from tests.support.registries import Registry, Stores

LOOPBACK = addresses.networks(["127.0.0.0/8"])
DAY_S = 86400.0
HOOKS = "/api/v1/webhooks"


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path, stores=stores, webhook_networks="127.0.0.0/8") as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receivers.receiving() as made:
        yield made


@contextlib.contextmanager
def sending(registry: Registry, **how: Any) -> Iterator[Sender]:
    sender = Sender(registry.services, **how)
    stopping = threading.Event()
    thread = threading.Thread(target=sender.run, args=(stopping,))
    thread.start()
    try:
        yield sender
    finally:
        stopping.set()
        sender.stop()
        thread.join()


def hook(registry: Registry, receiver: Receiver, *kinds: str) -> str:
    made: str = registry.post(HOOKS, {"url": receiver.url, "kinds": list(kinds)})["id"]
    return made


def shown(registry: Registry, webhook: str) -> Any:
    return registry.get(f"{HOOKS}/{webhook}")


def tell(registry: Registry, count: int = 1) -> None:
    """Make events of the kind token.created."""
    for _ in range(count):
        registry.token()


def subjects(receiver: Receiver) -> list[int]:
    return [each.event["data"]["id"] for each in receiver.got]


def test_a_webhook_is_told_in_order_of_what_it_wants_and_of_nothing_before_it(
    registry: Registry, receiver: Receiver
) -> None:
    tell(registry)
    webhook = hook(registry, receiver, "token.*")
    with sending(registry):
        tell(registry, 3)
        registry.enrol("dev-a")
        eventually(lambda: len(receiver.got) == 4, "all are told")
    eventually(lambda: not shown(registry, webhook)["waiting"], "the last is written down")

    assert receiver.kinds == ["token.created"] * 4
    assert subjects(receiver) == sorted(subjects(receiver))


def test_a_message_is_signed_as_the_specification_says(
    registry: Registry, receiver: Receiver
) -> None:
    secret = registry.post(HOOKS, {"url": receiver.url})["secret"]
    with sending(registry):
        tell(registry)
        eventually(lambda: len(receiver.got) == 1, "it is told")
    (message,) = receiver.got
    now = registry.clock.now()

    signing.verify(secret, message.headers, message.body, now=now)
    assert message.headers["webhook-id"].startswith(f"evt_{message.event['data']['id']}_")
    assert message.event["timestamp"] == "2027-01-15T08:00:00Z"
    for wrong in (
        {"body": message.body + b" "},
        {"now": now + 301},
        {"secret": signing.make_secret()},
        {"headers": {**message.headers, "webhook-id": "evt_1_00000000"}},
    ):
        given = {"secret": secret, "headers": message.headers, "body": message.body, "now": now}
        with pytest.raises(InvalidError):
            signing.verify(**{**given, **wrong})


def test_the_signature_is_the_one_that_the_specification_gives_as_an_example() -> None:
    signature = signing.sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        message="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_verifying_lines_in_the_documents_work(registry: Registry, receiver: Receiver) -> None:
    secret = registry.post(HOOKS, {"url": receiver.url})["secret"]
    with sending(registry):
        tell(registry)
        eventually(lambda: len(receiver.got) == 1, "it is told")
    (message,) = receiver.got
    page = (ROOT / "docs" / "specs" / "events.md").read_text("utf-8")
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    place: dict[str, Any] = {}
    exec(found[1], place)  # noqa: S102 - our own document

    assert place["is_genuine"](secret, message.headers, message.body)
    assert not place["is_genuine"](secret, message.headers, message.body + b" ")


def test_a_failure_is_tried_again_in_order_and_shows(
    registry: Registry, receiver: Receiver
) -> None:
    webhook = hook(registry, receiver, "token.*")
    receiver.statuses, receiver.answer = [500, 503], b"not now"
    with sending(registry) as sender:
        tell(registry, 2)
        for attempt in range(1, 3):
            eventually(lambda: len(receiver.got) == attempt, "tried")  # noqa: B023 - at once
            eventually(lambda: shown(registry, webhook)["failing_since"] is not None, "noted")
            registry.clock.at += 1000
            sender.wake()
        eventually(lambda: len(receiver.got) == 4, "both are told")
    first, second, third, fourth = (each.event["data"]["id"] for each in receiver.got)
    eventually(lambda: not shown(registry, webhook)["waiting"], "the last is written down")
    log = registry.get(f"{HOOKS}/{webhook}/deliveries")["items"]

    assert first == second == third < fourth
    assert [each["outcome"] for each in log] == ["delivered", "delivered", "failed", "failed"]
    assert (log[-1]["status"], log[-1]["detail"], log[1]["attempt"]) == (500, "not now", 3)
    assert shown(registry, webhook)["failing_since"] is None


def test_what_was_not_taken_in_a_day_is_a_dead_letter_until_it_is_replayed(
    registry: Registry, receiver: Receiver
) -> None:
    webhook = hook(registry, receiver, "token.*")
    sender = Sender(registry.services)
    tell(registry)
    receiver.statuses = [500, 500]
    assert not sender.send_next(webhook)
    registry.clock.at += DAY_S + 1
    assert not sender.send_next(webhook)
    state = shown(registry, webhook)
    assert (state["dead"], state["waiting"]) == (1, False)

    assert registry.post(f"{HOOKS}/{webhook}/replay", {})["queued"] == 1
    assert shown(registry, webhook)["waiting"]
    assert sender.send_next(webhook)
    assert shown(registry, webhook)["dead"] == 0
    assert len(set(subjects(receiver))) == 1
    kinds = [each["kind"] for each in registry.get(f"/api/v1/events?subject={webhook}")["items"]]
    assert kinds == ["webhook.created", "webhook.dead_lettered", "webhook.replayed"]


def test_a_dead_letter_that_is_refused_again_stays_one(
    registry: Registry, receiver: Receiver
) -> None:
    webhook = hook(registry, receiver, "token.*")
    sender = Sender(registry.services)
    tell(registry)
    receiver.statuses = [500, 500]
    registry.clock.at += DAY_S + 1
    sender.send_next(webhook)
    registry.post(f"{HOOKS}/{webhook}/replay", {})
    sender.send_next(webhook)

    assert (shown(registry, webhook)["dead"], shown(registry, webhook)["waiting"]) == (1, False)


def test_what_happened_since_an_event_can_be_told_once_more(
    registry: Registry, receiver: Receiver
) -> None:
    webhook = hook(registry, receiver, "token.*")
    sender = Sender(registry.services)
    tell(registry, 2)
    while sender.send_next(webhook):
        pass
    first = receiver.got[0].event["data"]["id"]
    registry.post(f"{HOOKS}/{webhook}/replay", {"after": first})
    while sender.send_next(webhook):
        pass
    ids = [each.headers["webhook-id"] for each in receiver.got]

    assert len(ids) == 3
    assert ids[2] == ids[1]  # so that a receiver can tell it from a new one


def test_a_replay_that_is_asked_for_while_a_message_is_under_way_is_not_undone(
    registry: Registry, receiver: Receiver
) -> None:
    webhook = hook(registry, receiver, "token.*")
    sender = Sender(registry.services)
    tell(registry, 2)
    sender.send_next(webhook)
    chosen = sender._choose(webhook)
    assert chosen is not None
    registry.post(f"{HOOKS}/{webhook}/replay", {"after": 0})
    with registry.services.transaction() as session:
        from cloud.registry import deliveries  # noqa: PLC0415 - beside its use

        row = session.get(tables.Webhook, webhook)
        assert row is not None
        deliveries.settle(
            session,
            row,
            chosen.letter,
            post.Answer(200, 1.0, ""),
            patience=Schedule(),
            chance=0.5,
            now=1.0,
        )

    assert shown(registry, webhook)["cursor"] == 0


@pytest.mark.parametrize(
    ("status", "later_s", "reason"), [(410, 0.0, "410 Gone"), (500, 6 * DAY_S, "for days")]
)
def test_a_webhook_that_is_gone_or_fails_for_days_is_switched_off_and_skips_nothing(
    registry: Registry, receiver: Receiver, status: int, later_s: float, reason: str
) -> None:
    webhook = hook(registry, receiver, "token.*")
    sender = Sender(registry.services, patience=Schedule(give_up_s=30 * DAY_S))
    tell(registry)
    receiver.statuses = [500, status]
    sender.send_next(webhook)
    registry.clock.at += 1000 + later_s
    sender.send_next(webhook)
    state = shown(registry, webhook)
    assert not state["active"]
    assert reason in state["disabled_reason"]
    assert registry.get("/api/v1/events?kind=webhook.disabled")["items"][0]["subject"] == webhook

    assert not sender.send_next(webhook)
    answer = registry.http.patch(f"{HOOKS}/{webhook}", json={"active": True})
    assert answer.status_code == 200
    assert sender.send_next(webhook)
    assert len(set(subjects(receiver))) == 1


def test_an_event_that_was_committed_is_told_by_the_next_process(
    registry: Registry, receiver: Receiver
) -> None:
    """There is no queue but the table of events: whoever sends next goes on there."""
    webhook = hook(registry, receiver, "token.*")
    tell(registry, 2)
    Sender(registry.services).send_next(webhook)
    with sending(registry):
        eventually(lambda: len(receiver.got) == 2, "the other one is told")

    assert len(set(subjects(receiver))) == 2


def test_a_sender_that_waits_for_work_ends_at_once(registry: Registry, receiver: Receiver) -> None:
    hook(registry, receiver, "token.*")
    with sending(registry):
        tell(registry)
        eventually(lambda: len(receiver.got) == 1, "it is told")
        began = time.monotonic()

    assert time.monotonic() - began < LOOK_S / 2


def test_a_slow_receiver_holds_up_no_other(registry: Registry, receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        registry.post(HOOKS, {"url": url})
        hook(registry, receiver)
        with sending(registry, timeout_s=1.0):
            tell(registry, 5)
            eventually(lambda: len(receiver.got) >= 5, "the other is told")


def test_a_webhook_is_not_told_of_itself(registry: Registry, receiver: Receiver) -> None:
    webhook = hook(registry, receiver)
    registry.http.patch(f"{HOOKS}/{webhook}", json={"description": "mine"})
    other = hook(registry, receiver, "nothing.*")
    while Sender(registry.services).send_next(webhook):
        pass

    assert [each.event["data"]["subject"] for each in receiver.got] == [other]


def test_a_test_message_is_sent_at_once_and_logged(registry: Registry, receiver: Receiver) -> None:
    webhook = hook(registry, receiver, "deployment.*")
    found = registry.post(f"{HOOKS}/{webhook}/test", None)

    assert (found["outcome"], found["status"]) == ("delivered", 204)
    assert receiver.kinds == ["webhook.test"]


def test_many_unwanted_events_are_passed_over_for_good(
    registry: Registry, receiver: Receiver
) -> None:
    webhook = hook(registry, receiver, "model.*")
    with registry.services.transaction() as session:
        session.add_all(
            tables.Event(at=1.0, actor="test", kind="token.created", subject="x")
            for _ in range(1001)
        )
    before = shown(registry, webhook)["cursor"]
    Sender(registry.services).send_next(webhook)

    assert shown(registry, webhook)["cursor"] > before + 1000


def test_of_the_deliveries_the_newest_are_kept(
    registry: Registry, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.registry.deliveries.KEPT", 3)
    webhook = hook(registry, receiver, "token.*")
    tell(registry, 5)
    sender = Sender(registry.services)
    while sender.send_next(webhook):
        pass
    kept = registry.get(f"{HOOKS}/{webhook}/deliveries")["items"]

    assert [each["event"] for each in kept] == subjects(receiver)[:1:-1]


def test_a_webhook_can_be_forgotten(registry: Registry, receiver: Receiver) -> None:
    webhook = hook(registry, receiver, "token.*")
    tell(registry)
    registry.clock.at += DAY_S + 1
    receiver.statuses = [500]
    Sender(registry.services).send_next(webhook)

    assert registry.http.delete(f"{HOOKS}/{webhook}").status_code == 204
    assert registry.http.get(f"{HOOKS}/{webhook}").status_code == 404
    assert registry.get(HOOKS)["items"] == []


def test_secrets_and_urls_stand_in_no_event_and_no_row_in_clear(
    registry: Registry, receiver: Receiver
) -> None:
    made = registry.post(HOOKS, {"url": f"{receiver.url}/T0KEN"})
    with registry.services.reading() as session:
        row = session.exec(select(tables.Webhook)).one()
        data = [each.data for each in session.exec(select(tables.Event))]

    key = base64.b64decode(made["secret"].removeprefix("whsec_"))
    assert key not in row.secret
    assert made["secret"].encode() not in row.secret
    assert "T0KEN" not in str(data)
    assert made["secret"] not in str(data)
    assert "secret" not in shown(registry, made["id"])


@pytest.mark.parametrize(
    "body",
    [
        {"url": "http://hooks.example/x", "kinds": ["Upper"]},
        {"url": "ftp://hooks.example/"},
        {"url": "https://user:secret@hooks.example/"},
        {"url": "https://hooks.example/#part"},
        {"url": "https://10.0.0.1/"},
        {"url": "https://[::1]/"},
        {"url": "https://169.254.169.254/latest/meta-data"},
        {"url": "https://hooks.example/a b"},
        {"url": "https:///nobody"},
        {"url": "https://hooks.example/", "secret": "whsec_c2hvcnQ="},
        {"url": "https://hooks.example/", "secret": "no secret"},
        {"url": "https://hooks.example/", "kinds": ["a*b"]},
    ],
    ids=str,
)
def test_a_webhook_that_cannot_be_is_refused_without_showing_its_secret(
    tmp_path: Path, body: dict[str, Any]
) -> None:
    with registries.running(tmp_path, webhook_networks="127.0.0.0/8") as registry:
        answer = registry.http.post(HOOKS, json=body)

    assert answer.status_code == 422
    assert "secret@" not in answer.text
    assert str(body.get("secret")) not in answer.text


def test_plain_http_is_for_networks_that_were_allowed(tmp_path: Path) -> None:
    with registries.running(tmp_path) as registry:
        answer = registry.http.post(HOOKS, json={"url": "http://hooks.example/"})

    assert answer.status_code == 422
    assert "webhook_networks" in answer.text


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),  # noqa: S104 - refused
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("nonsense", False),
    ],
)
def test_only_public_addresses_may_be_reached(address: str, *, public: bool) -> None:
    assert addresses.allowed(address, private=()) is public


def test_a_private_network_can_be_allowed_and_nothing_beside_it() -> None:
    private = addresses.networks(["10.0.0.0/8", "fd00::/8"])

    assert addresses.allowed("10.9.9.9", private=private)
    assert addresses.allowed("::ffff:10.9.9.9", private=private)
    assert addresses.allowed("fd12::1", private=private)
    assert not addresses.allowed("127.0.0.1", private=private)
    with pytest.raises(InvalidError, match="webhook_networks"):
        addresses.networks(["10.0.0.1/8"])


def test_a_name_that_leads_to_a_private_address_is_not_connected_to(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "localhost")
    answer = post.post(url, b"{}", {}, private=addresses.networks(["10.0.0.0/8"]))

    assert (answer.status, answer.good, receiver.got) == (None, False, [])
    assert "not public" in answer.detail


def test_over_tls_the_receiver_must_be_who_it_says(registry: Registry) -> None:
    authority = registry.services.authority
    trusting = tls.client_context(ca_pem=authority.ca_pem)
    with receivers.receiving(authority) as receiver:
        refused = post.post(receiver.url, b"{}", {}, private=LOOPBACK)
        taken = post.post(receiver.url, b"{}", {}, private=LOOPBACK, context=trusting)

    assert refused.status is None
    assert "certificate" in refused.detail.lower()
    assert (taken.status, len(receiver.got)) == (204, 1)


def test_a_redirect_is_a_failure_and_not_followed(receiver: Receiver) -> None:
    receiver.statuses, receiver.location = [307], receiver.url
    answer = post.post(receiver.url, b"{}", {}, private=LOOPBACK)

    assert (answer.status, answer.good, len(receiver.got)) == (307, False, 1)
    assert "redirect" in answer.detail


def test_of_an_answer_only_the_beginning_is_read(receiver: Receiver) -> None:
    receiver.answer = b"x" * 10_000_000
    receiver.statuses = [200]
    answer = post.post(receiver.url, b"{}", {}, private=LOOPBACK)

    assert answer.good
    assert len(answer.detail) == post.KEPT_BYTES


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 200 OK\r\n", b"nonsense\r\n\r\n"], ids=repr)
def test_a_receiver_that_trickles_or_lies_ends_in_time(says: bytes) -> None:
    over = threading.Event()

    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(says)
            while not over.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        answer = post.post(url, b"{}", {}, private=LOOPBACK, timeout_s=0.5)
        over.set()
        thread.join()

    assert answer.took_ms < 3000
    assert not answer.good


def test_nobody_who_listens_is_a_failure_with_a_reason() -> None:
    assert "refused" in post.post("http://127.0.0.1:9/", b"{}", {}, private=LOOPBACK).detail
    nowhere = post.post("https://nowhere.invalid/", b"{}", {}, private=LOOPBACK)
    assert "nowhere.invalid" in nowhere.detail


@given(
    attempts=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True), seed=st.integers()
)
def test_waits_grow_to_a_limit_and_no_further(attempts: int, chance: float, seed: int) -> None:
    patience = Schedule()
    wait_s = schedule.wait_s(patience, attempts, chance=chance)
    sooner = schedule.wait_s(patience, random.Random(seed).randint(1, attempts), chance=chance)

    assert 0 <= wait_s <= patience.most_s
    assert sooner <= wait_s


@pytest.mark.parametrize(
    ("age_s", "failing_s", "gone", "then"),
    [
        (0, 0, False, Then.AGAIN),
        (DAY_S - 1, DAY_S - 1, False, Then.AGAIN),
        (DAY_S, 10, False, Then.DEAD),
        (10, 5 * DAY_S, False, Then.DISABLE),
        (0, 0, True, Then.DISABLE),
    ],
)
def test_what_follows_a_failure(age_s: float, failing_s: float, then: Then, *, gone: bool) -> None:
    now = 1e9
    tried = Tried(event_at=now - age_s, failing_since=now - failing_s, gone=gone)

    assert schedule.after(Schedule(), tried, now=now) is then


def test_an_event_has_one_message_in_whatever_order_a_process_read_its_row() -> None:
    told: dict[str, Any] = {
        "id": 7, "at": 1.5, "actor": "a", "kind": "k", "subject": "s", "data": {"b": 1, "a": 2}
    }  # fmt: skip
    turned = {name: told[name] for name in reversed(told)}
    turned["data"] = {"a": 2, "b": 1}

    assert senders.message(tables.Event(**told)) == senders.message(tables.Event(**turned))
