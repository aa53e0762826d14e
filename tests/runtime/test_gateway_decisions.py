import hashlib

import pytest

from runtime.errors import InvalidError
from runtime.gateway import compare, config, health, retries, trace
from runtime.gateway.compare import Compared
from runtime.gateway.config import Config, Key, Limit, Revision
from runtime.gateway.health import Health, State
from runtime.gateway.keyring import Keyring, Limiter, TooOftenError, UnknownKeyError
from runtime.gateway.retries import Budget, Failure

SHA = hashlib.sha256(b"letmein").hexdigest()


class Clock:
    """A monotonic clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def keyring(*keys: Key, anonymous: bool = False, clock: Clock | None = None) -> Keyring:
    return Keyring(keys, anonymous=anonymous, limiter=Limiter(clock or Clock()))


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [("Bearer letmein", None), ("bearer  letmein ", None), (None, "letmein")],
)
def test_a_key_is_taken_from_either_header(authorization: str | None, api_key: str | None) -> None:
    assert keyring(Key("alice", SHA)).admit(authorization, api_key) == "alice"


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        (None, None),
        ("Bearer wrong", None),
        ("Basic letmein", None),
        ("Bearer ", None),
        (None, "letmein" * 100),
        ("Bearer " + SHA, None),
    ],
)
def test_whoever_has_no_key_is_not_let_in(authorization: str | None, api_key: str | None) -> None:
    with pytest.raises(UnknownKeyError):
        keyring(Key("alice", SHA)).admit(authorization, api_key)


def test_anonymous_lets_everybody_in_and_still_knows_the_keys() -> None:
    ring = keyring(Key("alice", SHA), anonymous=True)

    assert ring.admit(None, None) is None
    assert ring.admit("Bearer wrong", None) is None
    assert ring.admit("Bearer letmein", None) == "alice"


def test_a_key_that_asks_too_often_is_told_how_long_to_wait() -> None:
    clock = Clock()
    ring = keyring(Key("alice", SHA, Limit(per_s=2, burst=2)), clock=clock)
    ring.admit("Bearer letmein", None)
    ring.admit("Bearer letmein", None)

    with pytest.raises(TooOftenError) as told:
        ring.admit("Bearer letmein", None)

    assert told.value.wait_s == pytest.approx(0.5)
    clock.now = 0.51
    assert ring.admit("Bearer letmein", None) == "alice"


def test_a_new_configuration_does_not_fill_the_buckets() -> None:
    limiter, key = Limiter(Clock()), Key("alice", SHA, Limit(per_s=1, burst=1))
    Keyring([key], anonymous=False, limiter=limiter).admit("Bearer letmein", None)
    limiter.keep([key])

    with pytest.raises(TooOftenError):
        Keyring([key], anonymous=False, limiter=limiter).admit("Bearer letmein", None)


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_child_span_keeps_trace_and_flags_and_has_an_id_of_its_own() -> None:
    made = trace.child(TRACE)

    assert made is not None
    assert made.split("-")[1] == TRACE.split("-")[1]
    assert made.split("-")[2] != TRACE.split("-")[2]
    assert made.split("-")[3] == "01"


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "nonsense",
        TRACE[:-1],
        TRACE.upper(),
        "ff" + TRACE[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
    ],
)
def test_a_malformed_traceparent_is_dropped(given: str | None) -> None:
    assert trace.child(given) is None


def test_a_harmless_request_id_is_kept_and_another_is_replaced() -> None:
    assert trace.request_id("order-17") == "order-17"
    assert trace.request_id("two\r\nlines") != "two\r\nlines"
    assert trace.request_id(None) != trace.request_id(None)


def answer(body: str | bytes, *, status: int = 200, json_bytes: int | None = None) -> Compared:
    return Compared(status, body.encode() if isinstance(body, str) else body, json_bytes)


@pytest.mark.parametrize(
    ("given", "other"),
    [
        ('{"outputs": [{"data": [1, 2.0]}]}', '{"outputs":[{"data":[1.0001,2]}]}'),
        ('{"id": "a", "model_version": "1", "x": 1}', '{"id": "b", "model_version": "2", "x": 1}'),
        ("no json", "no json"),
        ('{"x": null}', '{"x": null}'),
    ],
)
def test_answers_that_say_the_same_do_not_differ(given: str, other: str) -> None:
    assert compare.difference(answer(given), answer(other)) is None


@pytest.mark.parametrize(
    ("given", "other", "where"),
    [
        (
            '{"outputs": [{"data": [1, 2]}]}',
            '{"outputs": [{"data": [1, 2.1]}]}',
            ".outputs[0].data[1]",
        ),
        ('{"x": [1]}', '{"x": [1, 2]}', ".x: 1 and 2 values"),
        ('{"x": 1}', '{"y": 1}', ".x: only one has it"),
        ('{"x": true}', '{"x": 1}', ".x: True, 1"),
        ('{"x": "a"}', '{"x": 1}', ".x: 'a', 1"),
        ("no json", "nor this", "body"),
    ],
)
def test_a_difference_is_named_by_its_place(given: str, other: str, where: str) -> None:
    assert (compare.difference(answer(given), answer(other)) or "").startswith(where)


def test_another_status_is_a_difference() -> None:
    assert compare.difference(answer("{}"), answer("{}", status=500)) == "status: 200, 500"


def test_bytes_behind_the_json_must_be_the_same() -> None:
    given, other = (answer(b'{"a":1}' + raw, json_bytes=7) for raw in (b"\x00\x01", b"\x00\x02"))

    assert (compare.difference(given, other) or "").startswith("bytes")


def test_a_replica_that_cannot_be_reached_is_ill_at_once_and_one_that_stumbles_is_not() -> None:
    well = health.probed(Health(), 0.0, well=True)

    assert health.failed(well, 1.0, certain=True).state is State.ILL
    stumbled = health.failed(health.failed(well, 1.0, certain=False), 1.0, certain=False)
    assert stumbled.state is State.WELL
    assert health.failed(stumbled, 1.0, certain=False).state is State.ILL
    assert health.failed(health.worked(stumbled), 1.0, certain=False).state is State.WELL


def test_a_request_that_may_kill_replicas_is_tried_three_times() -> None:
    waits = [
        retries.pause(
            Failure.SILENT, untried=True, rounds=0, costly=costly, budget=Budget(), left_s=60.0
        )
        for costly in (1, 2, 3)
    ]

    assert waits == [0.0, 0.0, None]


def test_a_request_that_reached_nobody_waits_for_somebody_to_come() -> None:
    waits = [
        retries.pause(
            Failure.UNREACHED, untried=False, rounds=rounds, costly=0, budget=Budget(0), left_s=60.0
        )
        for rounds in range(len(retries.PAUSES_S) + 1)
    ]

    assert waits == [*retries.PAUSES_S, None]


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (Config("s", 1, (Revision("r1", 40), Revision("r2", 40))), "weight"),
        (Config("s", 1, (Revision("r1", 100), Revision("r1", 0))), "revisions"),
        (Config("s", 1, (Revision("r1", 100, ("nowhere",)),)), "backends"),
        (Config("s", 1, (Revision("r1", 100, (), ("a:b",)),)), "backends"),
        (Config("s", 1, mirror="r9"), "mirror"),
        (Config("s", 1, keys=(Key("alice", "letmein"),)), "keys.alice.sha256"),
        (Config("s", 1, keys=(Key("alice", SHA, Limit(0, 1)),)), "limit.per_s"),
        (Config("s", 1, timeout_s=0), "timeout_s"),
        (Config("s", 1, max_body_bytes=0), "max_body_bytes"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_by_name(broken: Config, named: str) -> None:
    with pytest.raises(InvalidError, match=named.replace(".", r"\.")):
        config.decode(config.encode(broken))
