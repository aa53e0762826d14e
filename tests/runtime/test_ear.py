import logging

from runtime.ear import Ear


def test_an_error_is_told_in_words_and_all_else_is_not_put_into_words() -> None:
    told: list[str] = []
    ear = Ear(told.append)

    ear.log(logging.DEBUG, "Received PUBLISH %s", object())
    ear.log(logging.ERROR, "failed to receive on socket: %s", "reset by peer")

    assert told == ["failed to receive on socket: reset by peer"]
