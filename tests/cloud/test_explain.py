from dataclasses import replace

import pytest

from cloud.registry import explain, progress
from cloud.registry.explain import Presence, Stage, View, Wanted
from runtime.digests import Digest
from runtime.messages import ModuleReport, Phase, Progress, Reported, RunningVersion

NEW, OLD = Digest("b" * 64), Digest("a" * 64)
NOW = 1000.0
WANTED = Wanted("dep-new", NEW, "digits", 0)
REPORT = ModuleReport(
    name="digits",
    phase=Phase.RUNNING,
    bundle=NEW,
    model="digits",
    version=2,
    deployment="dep-new",
    since=5.0,
    running=RunningVersion(NEW, "digits", 2),
)


def view(module: ModuleReport | None = REPORT, *, generation: int = 3) -> View:
    modules = () if module is None else (module,)
    return View(
        device="dev-1",
        online=True,
        lease_s=60.0,
        last_seen=NOW - 10,
        generation=3,
        published_generation=3,
        reported=Reported(device="dev-1", generation=generation, at=4.0, modules=modules),
        reported_at=NOW - 20,
        winner="dep-new",
    )


def changed(**fields: object) -> ModuleReport:
    return ModuleReport(
        **{name: getattr(REPORT, name) for name in REPORT.__struct_fields__} | fields
    )


def test_a_device_that_said_so_and_is_heard_of_is_healthy() -> None:
    state = explain.explain(WANTED, view(), now=NOW)

    assert (state.stage, state.reason, state.age_s) == (Stage.RUNNING, "", 20.0)
    assert state.healthy
    assert state.converged


@pytest.mark.parametrize(
    ("seen", "presence", "why"),
    [
        (replace(view(), online=False), Presence.OFFLINE, "device offline, last heard of 10 s ago"),
        (replace(view(), last_seen=NOW - 900), Presence.UNKNOWN, "no word from the device for 15"),
        (replace(view(), online=None), Presence.UNKNOWN, "no word from the device for 10 s"),
        (replace(view(), last_seen=None), Presence.UNKNOWN, "the device has never connected"),
    ],
)
def test_a_device_that_is_not_heard_of_is_never_healthy(
    seen: View, presence: Presence, why: str
) -> None:
    state = explain.explain(WANTED, seen, now=NOW)

    assert state.stage is Stage.RUNNING
    assert state.converged
    assert not state.healthy
    assert state.presence is presence
    assert why in state.reason


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (replace(view(None), published_generation=2), "not yet handed to the broker"),
        (view(None, generation=2), "sent; the device has taken over generation 2 of 3"),
        (view(None), "the device has not begun yet"),
        (replace(view(), reported=None, reported_at=None), "taken over generation 0 of 3"),
        (replace(view(None), online=False), "device offline, last heard of 10 s ago"),
        (replace(view(None), online=None, last_seen=None), "the device has never connected"),
        (view(changed(deployment="dep-old")), "not begun yet"),
        (view(changed(bundle=OLD)), "not begun yet"),
        (view(changed(attempt=7)), "not begun yet"),
        (view(changed(name="other")), "not begun yet"),
    ],
)
def test_what_a_device_has_not_spoken_of_is_waiting_and_says_for_what(seen: View, why: str) -> None:
    state = explain.explain(WANTED, seen, now=NOW)

    assert state.stage is Stage.WAITING
    assert why in state.reason
    assert not state.converged


def test_a_failure_says_why_and_what_still_runs() -> None:
    report = changed(
        phase=Phase.FAILED,
        reason="check: output differs",
        running=RunningVersion(OLD, "digits", 1),
    )
    state = explain.explain(WANTED, view(report), now=NOW)

    assert (state.stage, state.reason) == (Stage.FAILED, "check: output differs")
    assert state.gave_up
    assert state.running == RunningVersion(OLD, "digits", 1)
    assert not explain.explain(
        WANTED, view(changed(phase=Phase.FAILED, retrying=True)), now=NOW
    ).gave_up


def test_a_download_shows_its_bytes() -> None:
    report = changed(phase=Phase.FETCHING, running=None, progress=Progress(5, 10))

    assert explain.explain(WANTED, view(report), now=NOW).reason == "5 of 10 bytes"


def test_a_newer_deployment_is_named() -> None:
    state = explain.explain(WANTED, replace(view(), winner="dep-newer"), now=NOW)

    assert state.stage is Stage.SUPERSEDED
    assert state.reason == "superseded by dep-newer on this device"
    assert not state.healthy


def test_complete_means_that_every_device_said_so_and_never_nobody() -> None:
    done = explain.explain(WANTED, view(), now=NOW)
    waiting = explain.explain(WANTED, view(None), now=NOW)
    failed = explain.explain(WANTED, view(changed(phase=Phase.FAILED, reason="x")), now=NOW)
    other = explain.explain(WANTED, replace(view(), winner="dep-x"), now=NOW)
    found = {
        name: (overview.complete, overview.settled)
        for name, states in {
            "none": [],
            "done": [done],
            "done and superseded": [done, other],
            "superseded only": [other],
            "one waits": [done, waiting],
            "one failed": [done, failed],
        }.items()
        for overview in [progress.overview(states)]
    }

    assert found == {
        "none": (False, False),
        "done": (True, True),
        "done and superseded": (True, True),
        "superseded only": (False, True),
        "one waits": (False, False),
        "one failed": (False, True),
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "60 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172800, "2 d")],
)
def test_times_read_well(seconds: float, text: str) -> None:
    assert explain.duration(seconds) == text


def test_what_was_applied_by_hand_is_said_until_something_newer_is_published() -> None:
    module = changed(deployment="by-hand", bundle=OLD, version=7)
    state = explain.explain(WANTED, view(module), now=NOW)
    later = explain.explain(WANTED, view(module, generation=2), now=NOW)

    assert (state.stage, state.retrying) == (Stage.WAITING, False)
    assert state.reason.startswith("digits:7 was applied by hand on the device: retry")
    assert later.reason == "sent; the device has taken over generation 2 of 3"
