"""What every target must do, whatever runs the services."""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from cloud.hosting.errors import RefusedError, UnreachableError
from cloud.hosting.targets import Condition, Question
from tests.support import targets
from tests.support.targets import World

WORLDS: dict[str, Callable[[Path], AbstractContextManager[World]]] = {
    "kubernetes": targets.kubernetes,
    "memory": targets.memory,
}


@pytest.fixture(params=sorted(WORLDS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with WORLDS[request.param](tmp_path) as running:
        yield running


def test_a_service_that_nobody_wished_is_absent(world: World) -> None:
    seen = world.target.observe("nobody-wished-it")

    assert (seen.condition, seen.revisions) == (Condition.ABSENT, ())
    assert world.target.services() == ()
    assert world.target.statuses("nobody-wished-it") == ()


def test_what_was_applied_is_seen_to_run(world: World) -> None:
    wish = world.wish("churn")
    (wanted,) = wish.revisions

    world.target.apply(wish)
    world.settle("churn")

    seen = world.target.observe("churn")
    assert seen.condition is Condition.READY, seen
    assert (seen.gateway_wanted, seen.gateway_ready, seen.generation) == (1, 1, wish.generation)
    (revision,) = seen.revisions
    assert (revision.number, revision.wanted, revision.ready) == (wanted.number, 1, 1)
    assert (revision.image, revision.model) == (wanted.image, wanted.model)
    assert (revision.version, revision.bundle) == (wanted.version, wanted.bundle)
    assert (revision.reasons, revision.drifted) == ((), ())
    assert seen.endpoints
    assert world.target.services() == ("churn",)


def test_each_gateway_says_which_configuration_it_has_in_force(world: World) -> None:
    world.target.apply(world.wish("churn", generation=3))
    world.settle("churn")

    assert [status.generation for status in world.target.statuses("churn")] == [3]


def test_applying_the_same_wish_again_changes_nothing(world: World) -> None:
    wish = world.wish("churn")
    world.target.apply(wish)
    world.settle("churn")
    before = copy.deepcopy(world.ours())

    world.target.apply(wish)

    assert world.ours() == before
    assert world.target.observe("churn").condition is Condition.READY


def test_a_deleted_service_leaves_nothing_and_no_other_service_is_touched(world: World) -> None:
    world.target.apply(world.wish("churn"))
    world.settle("churn")
    before = copy.deepcopy(world.ours())
    world.target.apply(world.wish("fraud"))
    world.settle("fraud")

    world.target.delete("fraud")
    world.settle("fraud")

    assert world.target.services() == ("churn",)
    assert world.target.observe("fraud").condition is Condition.ABSENT
    assert world.ours() == before


def test_deleting_what_is_not_there_is_no_error(world: World) -> None:
    world.target.delete("nobody-wished-it")

    assert world.target.services() == ()


def test_somebody_elses_things_are_neither_taken_over_nor_deleted(world: World) -> None:
    world.add_foreign("churn")
    before = copy.deepcopy(world.foreign())

    with pytest.raises(RefusedError, match="churn"):
        world.target.apply(world.wish("churn"))
    world.target.delete("churn")

    assert world.foreign() == before


def test_the_log_of_each_replica_can_be_read(world: World) -> None:
    world.target.apply(world.wish("churn"))
    world.settle("churn")

    lines = list(world.target.logs("churn", revision=None, follow=False, tail=10))

    assert lines
    assert all(line.replica and line.text for line in lines)
    assert list(world.target.logs("churn", revision=99, follow=False, tail=10)) == []


def test_a_revision_answers_the_registry_itself(world: World) -> None:
    wish = world.wish("churn")
    question = Question("/v2/models/churn/versions/1/infer", b'{"inputs": []}')
    with pytest.raises(UnreachableError, match="churn"):
        world.target.ask("churn", 1, question)
    world.target.apply(wish)
    world.settle("churn")

    status, body = world.target.ask("churn", 1, question)

    assert status == 200
    assert json.loads(body) == {"outputs": []}


def test_a_change_is_told_by_the_name_of_its_service(world: World) -> None:
    changes = world.target.changes()

    world.target.apply(world.wish("churn"))

    assert next(changes) == "churn"
