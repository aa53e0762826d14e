"""What the Docker target does about what is there, decided without an engine."""

import dataclasses

import msgspec
import pytest

from cloud.hosting.docker import applied, gatewayplan, marks, plan, reading, specs
from cloud.hosting.docker.inventory import Inventory
from cloud.hosting.targets import Condition, Resources, RevisionWish, Scale, Wish
from runtime.containers.specs import ContainerSeen
from runtime.gateway import config as gateway_config
from runtime.gateway.config import Config, Revision, Status

IMAGE, GATEWAY = "images/m:1", "images/gateway:1"


def wish(
    *revisions: RevisionWish, generation: int = 1, weights: dict[str, int] | None = None
) -> Wish:
    made = revisions or (revision(),)
    shares = weights or {each.name: 100 if each is made[0] else 0 for each in made}
    config = Config("demo", generation, tuple(Revision(n, w) for n, w in shares.items()))
    return Wish("demo", generation, made, GATEWAY, config)


def revision(number: int = 1, replicas: int = 1, **changes: object) -> RevisionWish:
    made = RevisionWish(number, IMAGE, "m", number, "d" * 64, scale=Scale(replicas))
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def replica(wished: Wish, number: int = 1, place: int = 1, **changes: object) -> ContainerSeen:
    """Return a replica as it is when it was made of this wish and runs."""
    of = next(each for each in wished.revisions if each.number == number)
    new = plan._made(wished, of, place)
    made = ContainerSeen(
        id=f"id-{new.name}",
        name=new.name,
        image="sha256:1",
        image_reference=of.image,
        labels=new.spec.labels,
        state="running",
        networks={marks.network("demo"): ()},
        addresses=(f"10.0.{number}.{place}",),
        network_mode=marks.network("demo"),
        cpu=of.resources.cpu,
        memory_mb=of.resources.memory_mb,
        restart="always",
        started_at="2026-01-01T00:00:01Z",
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def holder(
    wished: Wish, ports: tuple[int, int] = (20000, 20001), **changes: object
) -> ContainerSeen:
    made = specs.holder(wished, ports)
    labels = {
        marks.ROLE: marks.GATEWAY,
        marks.SPEC: specs.gateway_fingerprint(wished),
        marks.STATUS: made.status,
        marks.PORTS: made.ports,
    }
    seen = ContainerSeen(
        id="id-holder",
        name=f"holder-{made.tag}",
        image="sha256:2",
        image_reference=wished.gateway_image,
        labels=labels,
        state="running",
        ports=made.spec.ports,
        started_at="2026-01-01T00:00:00Z",
    )
    return dataclasses.replace(seen, **changes)  # type: ignore[arg-type]


def beside(wished: Wish, **changes: object) -> ContainerSeen:
    made = specs.beside(wished, "id-holder")
    labels = {
        marks.ROLE: marks.GATEWAY,
        marks.SPEC: specs.gateway_fingerprint(wished),
        marks.STATUS: made.status,
    }
    seen = ContainerSeen(
        id=f"id-beside-{made.tag}",
        name=f"beside-{made.tag}",
        image="sha256:3",
        image_reference=wished.gateway_image,
        labels=labels,
        state="running",
        network_mode="container:id-holder",
        started_at="2026-01-01T00:00:05Z",
    )
    return dataclasses.replace(seen, **changes)  # type: ignore[arg-type]


def there(
    wished: Wish | None = None,
    *containers: ContainerSeen,
    healthy: tuple[str, ...] = (),
    **more: bytes,
) -> Inventory:
    """Return what is there; each gateway says that it follows the wish's configuration."""
    files = {}
    if wished is not None:
        generation = wished.generation * applied.SERIALS
        status = Status("demo", generation, 1.0, healthy={"r1": healthy})
        for each in containers:
            if marks.is_gateway(each):
                files[each.labels[marks.STATUS]] = msgspec.json.encode(status)
        files[marks.APPLIED_NAME] = applied.encode(applied.of(wished, plan.fingerprints(wished)))
    return Inventory("demo", containers, {**files, **more}, volumes=frozenset({"v"}))


def test_where_nothing_is_every_replica_is_made_and_named_to_the_gateway() -> None:
    todo = plan.plan(wish(revision(replicas=2)), Inventory("demo"))

    assert [each.name for each in todo.new] == ["packhorse-demo-r1-1", "packhorse-demo-r1-2"]
    assert todo.config.revisions[0].backends == ("r1-1:8080", "r1-2:8080")
    assert todo.config.revisions[0].grpc_backends == ("r1-1:8081", "r1-2:8081")


def test_where_all_is_as_wished_nothing_is_done() -> None:
    wished = wish(revision(replicas=2))
    seen = there(wished, holder(wished), replica(wished), replica(wished, place=2))

    todo = plan.plan(wished, seen)

    assert dataclasses.replace(todo, config=Config("", 0)) == plan.Plan()
    assert gatewayplan.gateways(wished, seen) == gatewayplan.GatewayPlan()


def test_a_replica_that_leaves_is_in_no_configuration_any_more() -> None:
    before = wish(revision(replicas=2))
    seen = there(before, replica(before), replica(before, place=2, state="exited"))

    todo = plan.plan(wish(revision(replicas=1)), seen)

    assert todo.leave == ("id-packhorse-demo-r1-2",)
    assert todo.config.revisions[0].backends == ("r1-1:8080",)
    assert todo.new == todo.start == ()


def test_a_place_is_not_taken_again_while_somebody_leaves_it() -> None:
    wished = wish(revision(replicas=1))
    leaving = dataclasses.replace(
        there(wished, replica(wished)), leaving=frozenset({"id-packhorse-demo-r1-1"})
    )

    assert [each.name for each in plan.plan(wished, leaving).new] == ["packhorse-demo-r1-2"]


def test_replicas_of_another_making_go_on_until_the_wished_ones_answer() -> None:
    wished = wish(revision(resources=Resources(gpus=0)))
    old = replica(wished)
    old = dataclasses.replace(old, labels={**old.labels, marks.SPEC: "other"})
    new = replica(wished, place=2)

    first = plan.plan(wished, there(wished, holder(wished), old))
    waiting = plan.plan(wished, there(wished, holder(wished), old, new))
    done = plan.plan(wished, there(wished, holder(wished), old, new, healthy=("10.0.1.2:8080",)))

    assert [each.name for each in first.new] == ["packhorse-demo-r1-2"]
    assert (first.leave, waiting.leave, done.leave) == ((), (), (old.id,))
    assert waiting.config.revisions[0].backends == ("r1-1:8080", "r1-2:8080")
    assert done.config.revisions[0].backends == ("r1-2:8080",)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"state": "exited"}, "start"),
        ({"state": "created"}, "start"),
        ({"state": "paused"}, "unpause"),
        ({"state": "dead"}, "dead"),
        ({"cpu": 3.0}, "limit"),
        ({"restart": "no"}, "limit"),
        ({"networks": {}}, "join"),
    ],
)
def test_what_somebody_changed_is_put_back(changes: dict[str, object], part: str) -> None:
    wished = wish()

    todo = plan.plan(wished, there(wished, replica(wished, **changes)))

    assert len(getattr(todo, part)) == 1


def test_a_configuration_has_a_new_number_exactly_if_it_is_another() -> None:
    wished = wish().gateway
    first = applied.next_config(wished, None)
    same = applied.next_config(wished, first)
    other = msgspec.structs.replace(wished, timeout_s=1.0)
    second = applied.next_config(other, first)
    later = applied.next_config(msgspec.structs.replace(other, generation=2), second)

    assert first.generation == applied.SERIALS
    assert same is first
    assert second.generation == applied.SERIALS + 1
    assert later.generation == 2 * applied.SERIALS
    assert gateway_config.decode(applied.config_bytes(later)) == later


def test_another_gateway_starts_beside_the_one_there_which_then_holds_still() -> None:
    before = wish()
    after = dataclasses.replace(before, gateway_image="images/gateway:2")
    old, new = holder(before), beside(after)

    first = gatewayplan.gateways(after, there(before, old))
    then = gatewayplan.gateways(after, there(before, old, new))
    back = gatewayplan.gateways(before, there(before, old, new))

    assert first.make_beside == "id-holder"
    assert then == gatewayplan.GatewayPlan(hold=("id-holder",))
    assert back.leave == (new.id,)


def test_a_gateway_that_held_still_is_called_back_when_it_is_wished_again() -> None:
    before = wish()
    silent = Inventory("demo", (holder(before),))

    assert gatewayplan.gateways(before, silent).call == ("id-holder",)


def test_a_gateway_whose_network_went_with_its_holder_is_started_anew() -> None:
    wished = wish()
    old = dataclasses.replace(wished, gateway_image="images/gateway:0")
    restarted = holder(old, started_at="2026-01-01T00:00:09Z")

    todo = gatewayplan.gateways(wished, there(wished, restarted, beside(wished)))

    assert todo.restart == (beside(wished).id,)


@pytest.mark.parametrize(
    ("port", "bind", "first"),
    [(30000, "127.0.0.1", ()), (20000, "192.0.2.7", ("id-holder",))],
)
def test_only_another_address_on_the_same_port_needs_the_port_to_be_free(
    port: int, bind: str, first: tuple[str, ...]
) -> None:
    before = wish()
    after = dataclasses.replace(before, port=port, bind=bind)

    todo = gatewayplan.gateways(after, there(before, holder(before)))

    assert todo.make_holder
    assert todo.first == first


@pytest.mark.parametrize(
    ("changes", "healthy", "condition", "code"),
    [
        ({}, ("10.0.1.1:8080",), Condition.READY, None),
        ({}, (), Condition.STARTING, None),
        ({"state": "exited", "exit_code": 3}, (), Condition.FAILING, "Exited"),
        (
            {"state": "restarting", "oom_killed": True, "exit_code": 137, "restarts": 1},
            (),
            Condition.FAILING,
            "OOMKilled",
        ),
        ({"restarts": 4}, (), Condition.FAILING, "CrashLoop"),
        ({"restarts": 4}, ("10.0.1.1:8080",), Condition.READY, None),
        ({"health": "unhealthy"}, (), Condition.FAILING, "Unhealthy"),
        ({"state": "created", "error": "no such device"}, (), Condition.FAILING, "StartFailed"),
    ],
)
def test_a_revision_is_what_its_replicas_are(
    changes: dict[str, object], healthy: tuple[str, ...], condition: Condition, code: str | None
) -> None:
    wished = wish()
    seen = there(wished, holder(wished), replica(wished, **changes), healthy=healthy)
    logs = {} if healthy else {"id-packhorse-demo-r1-1": ("the model is broken",)}

    observed = reading.observed(seen, logs=logs, missing={})

    assert observed.revisions[0].condition is condition
    assert observed.condition is condition
    assert [each.code for each in observed.revisions[0].reasons] == ([code] if code else [])


def test_a_service_without_the_image_it_needs_says_so() -> None:
    wished = wish()

    observed = reading.observed(
        there(wished, holder(wished)), logs={}, missing={IMAGE: "the engine has no such image"}
    )

    assert observed.revisions[0].reasons[0].code == reading.IMAGE_MISSING
    assert observed.condition is Condition.FAILING
    assert observed.revisions[0].drifted == ()


def test_generations_are_those_of_the_wish_and_endpoints_those_of_the_holder() -> None:
    wished = wish(generation=7)

    observed = reading.observed(there(wished, holder(wished)), logs={}, missing={})

    assert observed.generation == 7
    assert observed.endpoints == ("http://127.0.0.1:20000", "grpc://127.0.0.1:20001")
