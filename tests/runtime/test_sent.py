import threading
from collections import deque

import pytest

from runtime import sent
from runtime.errors import LinkError


class Message:
    """A message that the broker has, or takes as soon as it is waited for."""

    def __init__(self, *, taken: bool, error: Exception | None = None) -> None:
        self.taken, self.error, self.waited = taken, error, 0

    def is_published(self) -> bool:
        if self.error is not None:
            raise self.error
        return self.taken

    def wait_for_publish(self, timeout: float | None = None) -> None:
        del timeout
        self.waited += 1
        self.taken = True


def under_way(*messages: Message) -> deque[sent.Sent]:
    return deque(messages)


def test_all_but_the_last_ones_are_waited_for_and_dropped() -> None:
    messages = [Message(taken=False) for _ in range(100)]
    waiting = under_way(*messages)

    sent.wait_for_some(waiting, threading.Event(), 1.0, but=10)

    assert list(waiting) == messages[90:]
    assert all(message.taken for message in messages[:90])
    assert not any(message.waited for message in messages[90:])


def test_whoever_waits_for_many_waits_for_the_last_of_them_and_is_woken_once() -> None:
    last = Message(taken=False)
    others = [Message(taken=True) for _ in range(sent.STEP - 1)]

    sent.wait_for_some(under_way(*others, last), threading.Event(), 1.0)

    assert last.waited == 1
    assert not any(message.waited for message in others)


def test_one_that_is_missing_before_the_last_is_waited_for_too() -> None:
    missing = Message(taken=False)

    sent.wait_for_some(under_way(missing, Message(taken=True)), threading.Event(), 1.0)

    assert missing.waited == 1


def test_what_the_broker_has_is_dropped_up_to_the_first_that_it_has_not() -> None:
    kept = [Message(taken=False), Message(taken=True)]
    waiting = under_way(Message(taken=True), Message(taken=True), *kept)

    sent.drop_taken(waiting)

    assert list(waiting) == kept


def test_what_was_refused_is_not_taken() -> None:
    refused = Message(taken=True, error=ValueError("queue full"))
    waiting = under_way(refused)

    sent.drop_taken(waiting)

    assert list(waiting) == [refused]
    with pytest.raises(LinkError, match="queue full"):
        sent.wait_for(refused, threading.Event(), 1.0)


def test_nothing_is_waited_for_once_the_connection_is_lost() -> None:
    ended = threading.Event()
    ended.set()

    with pytest.raises(LinkError, match="lost"):
        sent.wait_for(Message(taken=False), ended, 1.0)


def test_the_wait_has_an_end() -> None:
    with pytest.raises(LinkError, match="not acknowledged within 0 s"):
        sent.wait_for(Message(taken=False), threading.Event(), 0.0)
