"""What is to be done so that what is there becomes what is wished: pure.

    replicas   made where one lacks, started where one stands still; what is too many, or of another
               making, leaves once nothing wished is lost by it
    config     names every replica that stays, so that no request goes to one that leaves
    gateways   one of the wished making; another beside it leaves once the wished one is in force

Nothing is sent away here: what leaves is named, and goes when no gateway knows it any more.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from cloud.hosting.docker import marks, reading, specs
from cloud.hosting.docker.inventory import Inventory
from cloud.hosting.targets import GRPC_PORT, HTTP_PORT, RevisionWish, Wish
from runtime.containers import payload
from runtime.containers.specs import ContainerSeen, ContainerSpec
from runtime.gateway.config import Config

T = TypeVar("T")


@dataclass(frozen=True)
class New:
    """A replica that is to be made."""

    name: str
    revision: RevisionWish
    spec: ContainerSpec


@dataclass(frozen=True)
class Plan:
    """What is to be done, in this order; the gateways are planned apart."""

    dead: tuple[str, ...] = ()
    """Ids of containers that cannot be started again."""
    new: tuple[New, ...] = ()
    start: tuple[str, ...] = ()
    unpause: tuple[str, ...] = ()
    limit: tuple[tuple[str, RevisionWish], ...] = ()
    """Containers whose limits somebody changed."""
    join: tuple[tuple[str, str], ...] = ()
    """Containers that somebody took from the network, and their names in it."""
    config: Config = field(default_factory=lambda: Config("", 0))
    """With the generation of the wish."""
    leave: tuple[str, ...] = ()
    """Ids of replicas that leave once the configuration is in force."""


def fingerprints(wish: Wish) -> dict[int, str]:
    """Return what tells the containers of each revision from others."""
    return {each.number: payload.fingerprint(specs.replica(wish, each)) for each in wish.revisions}


def plan(wish: Wish, there: Inventory) -> Plan:
    """Return what is to be done about replicas."""
    prints = fingerprints(wish)
    stay: list[tuple[int, int]] = []
    parts: list[Plan] = []
    for revision in wish.revisions:
        part, kept = _revision(wish, revision, prints[revision.number], there)
        parts.append(part)
        stay += [(revision.number, place) for place in kept]
    wished = {each.number for each in wish.revisions}
    gone = [each for each in _present(there) if marks.revision_of(each) not in wished]
    return Plan(
        dead=_chain(part.dead for part in parts),
        new=_chain(part.new for part in parts),
        start=_chain(part.start for part in parts),
        unpause=_chain(part.unpause for part in parts),
        limit=_chain(part.limit for part in parts),
        join=_chain(part.join for part in parts),
        config=_addressed(wish, stay),
        leave=(*_chain(part.leave for part in parts), *(each.id for each in gone)),
    )


def _present(there: Inventory) -> list[ContainerSeen]:
    return [each for each in there.replicas if each.id not in there.leaving]


def _revision(
    wish: Wish, revision: RevisionWish, spec: str, there: Inventory
) -> tuple[Plan, list[int]]:
    """Return what is to be done about one revision, and the places that it keeps."""
    mine = [each for each in _present(there) if marks.revision_of(each) == revision.number]
    dead = [each for each in mine if each.state in {"dead", "removing"}]
    usable = [each for each in mine if each not in dead]
    right = sorted(
        (each for each in usable if each.labels.get(marks.SPEC) == spec), key=_best_first
    )
    wrong = [each for each in usable if each not in right]
    wanted = max(0, revision.scale.least)
    kept, surplus = right[:wanted], right[wanted:]
    new = _new(wish, revision, there, wanted - len(kept))
    # Those of another making go on until all of the wished making answer.
    replaced = len(kept) == wanted and all(reading.answers(there, each) for each in kept)
    leave = [*surplus, *(wrong if replaced else ())]
    staying = [*kept, *(() if replaced else wrong)]
    places = [marks.place_of(each) for each in staying]
    done = Plan(
        dead=tuple(each.id for each in dead if each.state == "dead"),
        new=tuple(new),
        start=tuple(each.id for each in staying if each.state in {"exited", "created"}),
        unpause=tuple(each.id for each in staying if each.state == "paused"),
        limit=tuple((each.id, revision) for each in kept if limits_differ(each, revision)),
        join=tuple(
            (each.id, marks.alias(revision.number, marks.place_of(each)))
            for each in staying
            if marks.network(wish.service) not in each.networks
        ),
        leave=tuple(each.id for each in leave),
    )
    return done, sorted([*places, *(int(each.spec.labels[marks.PLACE]) for each in new)])


def limits_differ(container: ContainerSeen, revision: RevisionWish) -> bool:
    """Say whether somebody changed what a replica may use."""
    wished = revision.resources
    return (container.cpu, container.memory_mb, container.restart) != (
        wished.cpu or None,
        wished.memory_mb or None,
        "always",
    )


def _best_first(container: ContainerSeen) -> tuple[int, int]:
    ranks = {"running": 0, "restarting": 1, "paused": 2, "exited": 3, "created": 3}
    ill = container.health == "unhealthy"
    return ranks.get(container.state, 4) + ill, marks.place_of(container)


def _new(wish: Wish, revision: RevisionWish, there: Inventory, count: int) -> list[New]:
    """Return so many new replicas, at places that nobody has, not even one that leaves."""
    taken = {
        marks.place_of(each)
        for each in there.replicas
        if marks.revision_of(each) == revision.number
    }
    free = (place for place in range(1, len(taken) + max(count, 0) + 2) if place not in taken)
    return [_made(wish, revision, place) for place, _ in zip(free, range(count), strict=False)]


def _made(wish: Wish, revision: RevisionWish, place: int) -> New:
    plain = specs.replica(wish, revision, place)
    labels = {
        marks.SERVICE: wish.service,
        marks.ROLE: marks.REPLICA,
        marks.REVISION: str(revision.number),
        marks.PLACE: str(place),
        marks.MODEL: revision.model,
        marks.VERSION: str(revision.version),
        marks.BUNDLE: revision.bundle,
        marks.GENERATION: str(wish.generation),
        marks.SPEC: payload.fingerprint(specs.replica(wish, revision)),
    }
    spec = dataclasses.replace(plain, labels=labels)
    return New(marks.replica(wish.service, revision.number, place), revision, spec)


def _addressed(wish: Wish, stay: Sequence[tuple[int, int]]) -> Config:
    """Return the wished configuration with the addresses of the replicas that stay."""

    def backends(name: str, port: int) -> tuple[str, ...]:
        return tuple(
            f"{marks.alias(number, place)}:{port}"
            for number, place in sorted(stay)
            if f"r{number}" == name
        )

    revisions = tuple(
        msgspec.structs.replace(
            each,
            backends=backends(each.name, HTTP_PORT),
            grpc_backends=backends(each.name, GRPC_PORT),
        )
        for each in wish.gateway.revisions
    )
    return msgspec.structs.replace(wish.gateway, revisions=revisions)


def _chain(parts: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    return tuple(itertools.chain.from_iterable(parts))
