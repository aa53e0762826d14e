import threading
import time

import pytest

from cloud.messaging import intake
from cloud.messaging.intake import Intake
from runtime import topics
from runtime.link import Received
from runtime.topics import Channel, DeviceId

A = DeviceId("dev-a")


def desk() -> tuple[Intake, list[int]]:
    acked: list[int] = []
    made = Intake(threading.Event(), ack=lambda message: acked.append(message.mid), now=lambda: 5.0)
    return made, acked


def message(topic: str, mid: int = 1) -> Received:
    return Received(topic, b"payload", mid, retained=False, qos=1)


def test_each_message_goes_where_it_belongs() -> None:
    made, acked = desk()
    for mid, channel in enumerate(topics.FROM_DEVICE):
        made.put(message(topics.render(A, channel), mid))

    assert made.telemetry.get_nowait().message.topic == topics.render(A, Channel.TELEMETRY)
    assert made.requests.get_nowait().message.topic == topics.render(A, Channel.REQUEST)
    states = [made.states.get_nowait().message.topic for _ in range(2)]
    assert states == [topics.render(A, Channel.REPORTED), topics.render(A, Channel.PRESENCE)]
    uncommitted = (Channel.PART_WANTED, Channel.RESULT)
    assert acked == [topics.FROM_DEVICE.index(channel) for channel in uncommitted]


def test_a_strange_topic_is_forgotten() -> None:
    made, acked = desk()
    made.put(message("ph/1/s99/telemetry/dev-a", 9))

    assert (made.telemetry.qsize(), acked) == (0, [9])


def test_what_is_there_is_taken_at_once_up_to_the_limit() -> None:
    made, _ = desk()
    for mid in range(5):
        made.put(message(topics.render(A, Channel.TELEMETRY), mid))

    assert [one.message.mid for one in intake.take(made.telemetry, most=3, wait_s=1.0)] == [0, 1, 2]
    began = time.monotonic()
    assert [one.message.mid for one in intake.take(made.telemetry, most=3, wait_s=5.0)] == [3, 4]
    assert time.monotonic() - began < 1.0
    assert intake.take(made.telemetry, most=3, wait_s=0.01) == []


def test_more_gather_for_a_while_once_there_is_a_first(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = desk()
    topic, slept = topics.render(A, Channel.TELEMETRY), list[float]()
    made.put(message(topic, 0))

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        made.put(message(topic, 1))

    monkeypatch.setattr(time, "sleep", sleep)

    until = time.monotonic() + 60.0
    group = intake.take(made.telemetry, most=3, wait_s=1.0, not_before=until)

    assert [one.message.mid for one in group] == [0, 1]
    assert [0.0 < seconds <= 60.0 for seconds in slept] == [True]


def test_nobody_waits_for_more_than_fit_nor_for_a_moment_that_is_past() -> None:
    made, _ = desk()
    for mid in range(3):
        made.put(message(topics.render(A, Channel.TELEMETRY), mid))
    began = time.monotonic()

    full = intake.take(made.telemetry, most=2, wait_s=1.0, not_before=began + 60.0)
    rest = intake.take(made.telemetry, most=2, wait_s=1.0, not_before=began)

    assert [len(full), len(rest)] == [2, 1]
    assert time.monotonic() - began < 30.0


def test_a_full_queue_holds_the_link_back_until_there_is_room_or_an_end() -> None:
    made, _ = desk()
    for mid in range(intake.DEPTH):
        made.put(message(topics.render(A, Channel.TELEMETRY), mid))
    late = threading.Thread(
        target=made.put, args=(message(topics.render(A, Channel.TELEMETRY), 999),)
    )
    late.start()
    late.join(0.1)
    assert late.is_alive()

    intake.take(made.telemetry, most=1, wait_s=1.0)
    late.join(5.0)
    assert not late.is_alive()

    stuck = threading.Thread(
        target=made.put, args=(message(topics.render(A, Channel.TELEMETRY), 1000),)
    )
    stuck.start()
    made.stopping.set()
    stuck.join(5.0)
    assert not stuck.is_alive()


@pytest.mark.parametrize("channel", topics.FROM_DEVICE)
def test_a_topic_tells_which_session_it_came_by(channel: Channel) -> None:
    assert intake.channel(topics.render(A, channel)) is channel
    assert intake.channel(topics.every_device(channel).replace("+", "No Such Device")) is channel
