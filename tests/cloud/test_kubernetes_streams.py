import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud.hosting.errors import RefusedError, UnreachableError
from cloud.hosting.kubernetes import kinds, logs, watching
from cloud.hosting.kubernetes.errors import ExpiredError
from cloud.hosting.kubernetes.feeds import Feed, Tap
from cloud.hosting.targets import LogLine
from tests.support import kube_fixtures
from tests.support.kube import StatusError
from tests.support.kube_fixtures import Rig
from tests.support.kube_wishes import SERVICE, revision, wish

R1 = "churn-r1"


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(watching, "PAUSE_S", 0.01)
    monkeypatch.setattr(logs, "LOOK_S", 0.02)
    with kube_fixtures.rig(tmp_path) as made:
        yield made


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def next_of(changes: Iterator[str], wanted: str) -> str:
    return next(name for name in changes if name == wanted)


def followed(rig: Rig, tail: int = 100) -> Iterator[LogLine]:
    return rig.target.logs(SERVICE, revision=None, follow=True, tail=tail)


def test_changes_of_any_service_are_told_by_name(rig: Rig) -> None:
    changes = rig.target.changes()

    rig.apply(wish(service="churn"))
    assert next_of(changes, "churn")
    rig.apply(wish(service="fraud"))
    assert next_of(changes, "fraud")
    rig.kube.pods.start("churn-r1")
    assert next_of(changes, "churn")


def test_a_watch_that_the_server_ends_goes_on_from_where_it_was(rig: Rig) -> None:
    changes = rig.target.changes()
    rig.apply(wish(service="churn"))
    assert next_of(changes, "churn")

    rig.kube.end_streams()
    rig.apply(wish(service="fraud"))

    assert next_of(changes, "fraud")


def test_a_watch_from_too_far_back_begins_anew_and_tells_all_that_may_have_changed(
    rig: Rig,
) -> None:
    rig.apply(wish(service="churn"))
    changes = rig.target.changes()

    with rig.kube.store.lock:
        rig.kube.store.delete("services", "churn")
        rig.kube.store.forget_history()

    assert next_of(changes, "churn")


def test_changes_end_when_the_link_breaks_and_are_refused_when_they_may_not_be_seen(
    rig: Rig,
) -> None:
    changes = rig.target.changes()
    rig.kube.failures["watch", "pods"] = StatusError(503, "ServiceUnavailable", "going down")
    rig.kube.end_streams()
    assert [name for name in changes if name == "nobody"] == []

    rig.kube.failures["list", "pods"] = StatusError(403, "Forbidden", "no")
    with pytest.raises(RefusedError):
        rig.target.changes()


def test_closing_changes_from_another_thread_wakes_who_waits(rig: Rig) -> None:
    changes = rig.target.changes()
    assert isinstance(changes, Tap)
    got: list[str] = []
    waiting = in_thread(lambda: got.extend(changes))

    changes.close()

    waiting.join(10)
    assert (waiting.is_alive(), got) == (False, [])


def test_closing_the_target_ends_what_is_being_read(rig: Rig) -> None:
    changes = rig.target.changes()
    waiting = in_thread(lambda: list(changes) and None)

    rig.target.close()

    waiting.join(10)
    assert not waiting.is_alive()


def test_a_reader_that_was_forgotten_ends_its_threads(rig: Rig) -> None:
    before = threading.active_count()
    changes = rig.target.changes()
    mine = [thread for thread in threading.enumerate() if thread.name.startswith("watch-")]
    assert threading.active_count() > before

    del changes

    for thread in mine:
        thread.join(10)
    assert not any(thread.is_alive() for thread in mine)


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"type": "ADDED"}', b'"x"'])
def test_a_line_that_is_no_event_breaks_the_link(line: bytes) -> None:
    with pytest.raises(UnreachableError):
        watching.event(line, kinds.POD)


def test_an_event_that_says_it_is_too_late_is_known_by_code_or_by_reason() -> None:
    for status in ('{"code": 410}', '{"code": 500, "reason": "Expired"}'):
        with pytest.raises(ExpiredError):
            watching.event(f'{{"type": "ERROR", "object": {status}}}'.encode(), kinds.POD)


def test_logs_of_all_replicas_are_read_with_their_times(rig: Rig) -> None:
    rig.run(wish(1, [revision(1), revision(2)], {"r1": 100}))
    for name in ("churn-r1-5d4f-0", "churn-r2-5d4f-0", "churn-gateway-5d4f-0"):
        rig.kube.pods.write(name, "2026-01-01T00:00:01.25Z", f"hello from {name}")

    both = list(rig.target.logs(SERVICE, revision=None, follow=False, tail=5))
    one = list(rig.target.logs(SERVICE, revision=2, follow=False, tail=5))

    assert [line.text for line in both] == [
        "hello from churn-r1-5d4f-0",
        "hello from churn-r2-5d4f-0",
    ]
    assert one == [
        LogLine("churn-r2-5d4f-0", "hello from churn-r2-5d4f-0", kube_fixtures.START + 1.25)
    ]


def test_only_as_many_lines_are_read_as_were_asked_for(rig: Rig) -> None:
    rig.run(wish())
    for second in range(9):
        rig.kube.pods.write(f"{R1}-5d4f-0", f"2026-01-01T00:00:0{second}Z", str(second))

    lines = rig.target.logs(SERVICE, revision=1, follow=False, tail=2)

    assert [line.text for line in lines] == ["7", "8"]


def test_replicas_that_have_not_begun_are_left_out(rig: Rig) -> None:
    rig.apply(wish())
    rig.kube.pods.be(R1, state={"waiting": {"reason": "ContainerCreating"}})

    assert list(rig.target.logs(SERVICE, revision=None, follow=False, tail=5)) == []


def test_following_goes_on_with_replicas_that_come_later(rig: Rig) -> None:
    rig.run(wish())
    rig.kube.pods.write(f"{R1}-5d4f-0", "2026-01-01T00:00:01Z", "old")
    lines = followed(rig)

    assert next(lines).text == "old"
    rig.kube.pods.write(f"{R1}-5d4f-0", "2026-01-01T00:00:02Z", "new")
    assert next(lines).text == "new"
    later = rig.kube.pods.start(R1, number=1)
    rig.kube.pods.write(later, "2026-01-01T00:00:03Z", "later")
    assert next(lines) == LogLine(later, "later", kube_fixtures.START + 3)


def test_a_log_that_broke_off_goes_on_without_a_line_twice_or_missing(rig: Rig) -> None:
    rig.run(wish())
    pod = f"{R1}-5d4f-0"
    lines = followed(rig)
    rig.kube.pods.write(pod, "2026-01-01T00:00:01.1Z", "one")
    rig.kube.pods.write(pod, "2026-01-01T00:00:01.2Z", "two")
    first = [next(lines).text, next(lines).text]

    rig.kube.end_streams()
    rig.kube.pods.write(pod, "2026-01-01T00:00:01.3Z", "three")

    assert [*first, next(lines).text] == ["one", "two", "three"]


def test_following_is_ended_from_another_thread(rig: Rig) -> None:
    rig.run(wish())
    lines = followed(rig)
    assert isinstance(lines, Tap)
    waiting = in_thread(lambda: list(lines) and None)

    lines.close()

    waiting.join(10)
    assert not waiting.is_alive()


def test_following_without_the_right_to_is_refused(rig: Rig) -> None:
    rig.run(wish())
    rig.kube.granted.discard(("get", "", "pods/log"))

    with pytest.raises(RefusedError, match="get pods/log"):
        next(followed(rig))


@pytest.mark.parametrize(
    ("line", "at", "text"),
    [
        (b"2026-01-01T00:00:01.5Z a b", 1.5, "a b"),
        (b"2026-01-01T01:00:01.000000001+01:00 x", 1.000000001, "x"),
        (b"2026-01-01T00:00:02Z ", 2.0, ""),
    ],
)
def test_times_of_log_lines_are_read_in_any_zone(line: bytes, at: float, text: str) -> None:
    read, rest = logs.parse(line)

    assert read is not None
    assert (read.second + read.nanos / 1e9, rest) == (kube_fixtures.START + at, text)


@pytest.mark.parametrize("line", [b"", b"plain words", b"2026-13-01T00:00:00Z x", b"\xff\xfe"])
def test_a_line_without_a_time_is_a_line_all_the_same(line: bytes) -> None:
    assert logs.parse(line) == (None, line.decode("utf-8", "replace"))


def test_a_feed_holds_no_more_than_it_should() -> None:
    feed: Feed[int] = Feed(1)
    tap = Tap(feed)
    assert feed.put(1)
    blocked = in_thread(lambda: feed.put(2) and None)

    assert next(tap) == 1
    blocked.join(10)
    assert next(tap) == 2


def test_a_feed_that_is_closed_takes_nothing_and_lets_go_who_waits_to_give() -> None:
    feed: Feed[int] = Feed(1)
    feed.put(1)
    given: list[bool] = []
    blocked = in_thread(lambda: given.append(feed.put(2)))

    feed.close()

    blocked.join(10)
    assert given == [False]
    assert list(Tap(feed)) == []


def test_a_feed_gives_what_it_has_before_it_ends_with_an_error() -> None:
    feed: Feed[int] = Feed(9)
    feed.put(1)
    feed.finish(UnreachableError("gone"))
    tap = Tap(feed)

    assert next(tap) == 1
    with pytest.raises(UnreachableError, match="gone"):
        next(tap)
    assert list(tap) == []


def test_the_same_name_waits_but_once() -> None:
    feed: Feed[str] = Feed(9, distinct=True)
    for name in ("a", "b", "a"):
        feed.put(name)
    feed.finish()

    assert list(Tap(feed)) == ["a", "b"]
