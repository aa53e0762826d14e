"""What nothing refers to is deleted, and nothing else, whoever pushes or is killed meanwhile."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud import tables
from cloud.errors import ConflictError, MissingBlobsError, StoreError
from cloud.services import Services
from cloud.storage.collect import Collector
from cloud.storage.encodings import Recipe
from runtime import digests
from runtime.bundle import encodings
from tests.support import powercuts, registries, s3, stored
from tests.support.registries import Registry, SetClock, Stores
from tests.support.stored import GRACE_S

ENOUGH = 20
Act = Callable[[Services], None]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with opened(tmp_path) as made:
        yield made


@contextlib.contextmanager
def opened(data: Path, clock: Any = None, **settings: Any) -> Iterator[Services]:
    made = registries.services(
        data, clock=clock or SetClock(), **{"gc_grace_s": GRACE_S, **settings}
    )
    try:
        yield made
    finally:
        made.engine.dispose()


def later(services: Services, graces: float = 1.1) -> None:
    clock = services.clock
    assert isinstance(clock, SetClock)
    clock.at += graces * GRACE_S


def collect(services: Services, **options: Any) -> Any:
    return Collector(services).run(actor="test", **options)


def here(services: Services) -> set[str]:
    return set(services.blobs.digests())


def test_what_nothing_refers_to_goes_after_the_grace(services: Services) -> None:
    for number in (1, 2, 3):
        stored.upload(services, number)
    stored.register(services, "bundle", frozenset({1}))
    later(services, 0.9)
    kept = collect(services)
    later(services, 0.2)
    done = collect(services)

    assert (kept.blobs, done.blobs) == (0, 2)
    assert done.blob_bytes == len(stored.content_of(2)) + len(stored.content_of(3))
    assert here(services) == {stored.digest_of(1)}
    assert collect(services).blobs == 0


def test_what_was_told_to_a_client_lives_on(services: Services) -> None:
    """A push asks first and sends nothing that is here: it must stay until it is registered."""
    stored.upload(services, 1)
    later(services)
    assert services.presence.find(stored.digest_of(1)) is not None
    later(services, 0.8)
    collect(services)
    stored.register(services, "bundle", frozenset({1}))

    assert stored.lost(services) == []


def test_what_a_deleted_bundle_alone_needed_goes(services: Services) -> None:
    for number in (1, 2):
        stored.upload(services, number)
    stored.register(services, "one", frozenset({1, 2}))
    stored.register(services, "two", frozenset({2}))
    later(services)
    stored.forget(services, "one")

    assert collect(services).blobs == 1
    assert here(services) == {stored.digest_of(2)}


def test_encodings_go_with_their_blob_or_base(services: Services) -> None:
    for number in (1, 2):
        stored.upload(services, number)
    stored.register(services, "bundle", frozenset({1}))
    kept = Recipe(stored.digest_of(1), encodings.ZSTD)
    gone = (
        Recipe(stored.digest_of(2), encodings.ZSTD),
        Recipe(stored.digest_of(1), encodings.PATCH, stored.digest_of(2)),
    )
    for recipe in (kept, *gone):
        for suffix in (".data", ".parts"):
            made = services.store.scratch() / "made"
            made.write_bytes(b"encoded")
            services.store.put_file(recipe.key + suffix, made)
    later(services)
    foreseen = collect(services, dry_run=True)
    done = collect(services)

    assert (done.encodings, done.encoding_bytes) == (4, 28)
    assert (foreseen.encodings, foreseen.encoding_bytes, foreseen.blobs) == (4, 28, 1)
    left = {found.key for found in services.store.list("encodings/")}
    assert left == {kept.key + ".data", kept.key + ".parts"}


def test_blobs_of_an_earlier_version_get_the_whole_grace(services: Services) -> None:
    """Their registry kept no rows of them."""
    for number in (1, 2):
        services.blobs.put_bytes(stored.content_of(number))
    stored.register(services, "bundle", frozenset({1}))
    later(services, 9)
    first = collect(services)
    later(services, 0.9)
    collect(services)
    assert (first.adopted, first.blobs) == (1, 0)
    assert here(services) == {stored.digest_of(1), stored.digest_of(2)}
    later(services, 0.2)

    assert collect(services).blobs == 1
    assert here(services) == {stored.digest_of(1)}


def test_a_dry_run_only_tells(services: Services) -> None:
    stored.upload(services, 1)
    later(services)
    foreseen = collect(services, dry_run=True)

    assert (foreseen.blobs, foreseen.blob_bytes) == (1, len(stored.content_of(1)))
    assert here(services) == {stored.digest_of(1)}


def register(services: Services) -> None:
    with contextlib.suppress(MissingBlobsError):
        stored.register(services, "bundle", frozenset({1}))


def ask_and_register(services: Services) -> None:
    """What a push does: what it is told of can be registered, what it sends too."""
    stored.upload(services, 1)
    stored.register(services, "bundle", frozenset({1}))


def ask_collect_and_register(services: Services) -> None:
    stored.upload(services, 1)
    collect(services)
    stored.register(services, "bundle", frozenset({1}))


@pytest.mark.parametrize("act", [register, ask_and_register, ask_collect_and_register])
def test_a_killed_collection_takes_nothing_from_a_push(tmp_path: Path, act: Act) -> None:
    """Killed at each of its steps in turn, then pushed to, then collected again."""
    for last in itertools.count():
        with opened(tmp_path / str(last)) as services:
            stored.upload(services, 1)
            later(services)
            with powercuts.after(last) as steps:
                collect(services)
            act(services)
            collect(services)
            later(services)
            collect(services)

            assert (stored.lost(services), stored.stray(services)) == ([], [])
        if steps.seen < last:
            break
    assert last > 1, "there were steps to be killed at"


def test_a_push_between_any_steps_of_a_collection_loses_nothing(tmp_path: Path) -> None:
    for last in itertools.count():
        with opened(tmp_path / str(last)) as services:
            stored.upload(services, 1)
            later(services)
            acts = {last: ask_and_register}
            meanwhile = stored.Meanwhile(
                lambda step, services=services, acts=acts: acts.get(step, here)(services)
            )
            collect(services, stopping=meanwhile)

            assert (stored.lost(services), stored.stray(services)) == ([], [])
        if meanwhile.seen <= last:
            break
    assert last > 1, "there were steps to push between"


def test_a_killed_collection_is_finished_by_the_next(services: Services) -> None:
    stored.upload(services, 1)
    later(services)
    with powercuts.after(0):
        collect(services)
    with services.reading() as session:
        row = session.get(tables.Blob, stored.digest_of(1))
        assert row is not None
        assert row.deleting

    assert collect(services).blobs == 1
    assert here(services) == set()


def test_a_registration_refuses_what_was_collected(services: Services) -> None:
    stored.upload(services, 1)
    later(services)
    collect(services)

    with pytest.raises(MissingBlobsError) as raised:
        stored.register(services, "bundle", frozenset({1}))
    assert raised.value.missing == (stored.digest_of(1),)


def test_a_blob_that_the_disk_lost_is_asked_for_again(services: Services) -> None:
    stored.upload(services, 1)
    services.blobs.delete(stored.digest_of(1))

    assert services.presence.find(stored.digest_of(1)) is None
    stored.upload(services, 1)
    stored.register(services, "bundle", frozenset({1}))
    assert stored.lost(services) == []


def test_bytes_that_went_while_they_came_are_not_said_to_be_here(services: Services) -> None:
    """An upload that took longer than the grace, beside another one that was collected."""
    before = services.presence.deletions()
    stored.upload(services, 1)
    later(services)
    collect(services)

    with pytest.raises(StoreError, match="send it again"):
        services.presence.stored(stored.digest_of(1), 6, before=before)
    assert stored.stray(services) == []


def test_one_collection_runs_at_a_time(services: Services) -> None:
    with services.collecting, pytest.raises(ConflictError, match="under way"):
        collect(services)


def test_a_store_that_fails_half_way_loses_nothing(tmp_path: Path, s3_server: s3.Server) -> None:
    """The blob stays marked; the next run, or a push, finds the bytes as they are."""
    with s3_server.behind() as trouble:
        url = s3_server.url(trouble.endpoint)
        with opened(tmp_path, blobs_url=url) as services:
            for number in (1, 2):
                stored.upload(services, number)
            later(services)
            trouble.plan = lambda method, _path: s3.Fault(403 if method == "DELETE" else None)
            with pytest.raises(StoreError):
                collect(services)
            stored.upload(services, 1)
            stored.register(services, "bundle", frozenset({1}))
            trouble.plan = lambda _method, _path: s3.FINE

            assert collect(services).blobs == 1
            assert stored.lost(services) == []
            assert here(services) == {stored.digest_of(1)}


def again_and_again(
    work: Callable[[], object], ending: threading.Event, failed: list[BaseException]
) -> None:
    """Work until the end, which the first surprise brings."""
    while not ending.is_set():
        try:
            with contextlib.suppress(MissingBlobsError, StoreError, ConflictError):
                work()
        except BaseException as error:  # noqa: BLE001, PERF203 - told by the test
            failed.append(error)
            ending.set()


def test_pushes_and_collections_at_once_lose_nothing(tmp_path: Path, stores: Stores) -> None:
    """With a grace so short that collections meet pushes at every step."""
    with opened(tmp_path, RealClock(), stores=stores, gc_grace_s=0.05) as services:
        ending = threading.Event()
        failed: list[BaseException] = []
        names, numbers = itertools.count(), itertools.count()
        collected: list[int] = []

        def enough() -> None:
            if sum(collected) > ENOUGH:
                ending.set()

        def push(numbers: frozenset[int]) -> None:
            bundle = f"bundle {next(names)}"
            for number in numbers:
                stored.upload(services, number)
            stored.register(services, bundle, numbers)
            for number in numbers:
                content = b"".join(services.blobs.read(stored.digest_of(number)))
                assert content == stored.content_of(number)
            stored.forget(services, bundle)

        works: list[Callable[[], object]] = [
            lambda: push(frozenset({next(numbers) % 5, 1})),
            lambda: push(frozenset({next(numbers) % 5, 2})),
            lambda: push(frozenset({next(numbers) % 5})),
            lambda: collected.append(collect(services).blobs) or enough(),
        ]
        threads = [
            threading.Thread(target=again_and_again, args=(work, ending, failed)) for work in works
        ]
        for thread in threads:
            thread.start()
        ending.wait(20)
        ending.set()
        for thread in threads:
            thread.join()

        assert failed == []
        assert sum(collected) > ENOUGH, "pushes met collections"


class RealClock:
    """The machine's own."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def test_an_operator_collects_by_hand(tmp_path: Path) -> None:
    with registries.running(tmp_path) as registry:
        digest = upload_by_http(registry, b"nobody registers this")
        registry.clock.at += 2 * 86400
        foreseen = registry.post("/api/v1/gc", {"dry_run": True})
        done = registry.post("/api/v1/gc", {})

        assert (foreseen["blobs"], foreseen["dry_run"]) == (1, True)
        assert (done["blobs"], done["blob_bytes"], done["dry_run"]) == (1, 21, False)
        assert registry.http.head(f"/api/v1/blobs/{digest}").status_code == 404


def upload_by_http(registry: Registry, content: bytes) -> str:
    digest = digests.of_bytes(content)
    assert registry.http.put(f"/api/v1/blobs/{digest}", content=content).status_code == 200
    return digest


def test_a_deleted_version_frees_its_blobs_and_no_other(tmp_path: Path) -> None:
    with registries.running(tmp_path) as registry:
        registry.register("digits", b"one")
        registry.register("digits", b"two")
        before = here(registry.services)
        registry.clock.at += 2 * 86400
        assert registry.http.delete("/api/v1/models/digits/versions/1").is_success
        registry.post("/api/v1/gc", {})

        assert len(before) == 4
        assert len(here(registry.services)) == 2
        assert stored.lost(registry.services) == []
        assert registry.get("/api/v1/models/digits/versions/2/index")["name"] == "digits"


def test_the_registry_collects_by_itself(tmp_path: Path) -> None:
    with opened(tmp_path) as services:
        stored.upload(services, 1)
        later(services)
        stopping = threading.Event()
        duty = threading.Thread(target=Collector(services).every, args=(0.01, stopping))
        duty.start()
        deadline = time.monotonic() + 20
        while here(services) and time.monotonic() < deadline:
            stopping.wait(0.01)
        stopping.set()
        duty.join()

        assert here(services) == set()
