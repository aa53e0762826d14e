"""Enrolment tokens that are no good, with real processes: why, and nothing half written."""

import threading
from collections.abc import Callable

import pytest

from cloud import shapes
from tests.support import fleets
from tests.support.fleets import Fleet, Said


def token(fleet: Fleet, **wish: object) -> str:
    return fleet.client.make_token(shapes.NewToken.make(**wish)).token


def expired(fleet: Fleet) -> str:
    said = fleet.packhorse("devices", "token", "--ttl", "50ms")
    assert said.code == 0, said
    threading.Event().wait(0.1)
    return said.out.strip()


def used_twice(fleet: Fleet) -> str:
    made = token(fleet)
    directory = str(fleet.place / "first-with-it")
    said = enrol(fleet, directory, made, "--id", "first-with-it")
    assert said.code == 0, said
    return made


def never_made(fleet: Fleet) -> str:
    return "pht_" + "A" * 32 + "." + token(fleet).partition(".")[2]


def of_another_registry(fleet: Fleet) -> str:
    return token(fleet).partition(".")[0] + "." + "0" * 64


def mangled(fleet: Fleet) -> str:
    return token(fleet)[:-5]


def of_another_device(fleet: Fleet) -> str:
    return token(fleet, device_id="somebody-else")


def enrol(fleet: Fleet, directory: str, token: str, *more: str) -> Said:
    arguments = ["--data", directory, "--url", fleet.registry.url, *more]
    return fleets.run("packhorse-agent", "enrol", *arguments, PACKHORSE_AGENT_TOKEN=token)


@pytest.mark.parametrize(
    ("bad", "code", "words"),
    [
        (never_made, 1, ["it was not made here", "packhorse devices token"]),
        (of_another_registry, 1, ["CA of", "not the one in the token"]),
        (expired, 1, ["it expired", "seconds ago", "packhorse devices token"]),
        (used_twice, 1, ["used to enrol first-with-it", "works once", "packhorse devices token"]),
        (mangled, 2, ["pht_SECRET.FINGERPRINT", "copy the whole"]),
        (of_another_device, 1, ["device_id", "this token is for somebody-else only"]),
    ],
)
def test_a_token_that_is_no_good_leaves_no_identity_and_a_good_one_works_after_it(
    fleet: Fleet, bad: Callable[[Fleet], str], code: int, words: list[str]
) -> None:
    name = f"token-{bad.__name__.replace('_', '-')}"
    directory = fleet.place / name
    wrong = bad(fleet)

    said = enrol(fleet, str(directory), wrong, "--id", name)

    assert (said.code, said.out) == (code, "")
    assert all(word in said.complaint for word in words), said.complaint
    assert wrong[:20] not in said.complaint, "a secret is not repeated"
    assert fleets.tree(directory) <= {"identity/device.key", "run/lock"}
    assert name not in {device.id for device in fleet.client.devices()}
    ran = fleets.run("packhorse-agent", "run", "--data", str(directory))
    assert ran.code == 2
    assert "enrol" in ran.complaint

    assert enrol(fleet, str(directory), token(fleet), "--id", name).code == 0
    assert name in {device.id for device in fleet.client.devices()}
