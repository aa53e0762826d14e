"""Images that a device fetches itself: real engine and image registry, a line that cuts."""

import itertools
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.bundles.fetch import Fetcher
from edge_agent.bundles.patience import FetchCancelledError, NotNowError
from edge_agent.bundles.purse import BudgetError
from edge_agent.containers.door import EngineDoor
from edge_agent.containers.enginepull import EnginePull
from edge_agent.containers.freight import Freight
from edge_agent.containers.logins import Logins
from edge_agent.errors import ImageError, NoImageError
from edge_agent.mind.terms import NO_TERMS, Terms
from edge_agent.pace import Pace
from runtime.bundle.blobs import BlobStore
from runtime.containers.engine import Engine
from runtime.digests import Digest
from runtime.errors import IntegrityError, LinkError, SpaceError
from runtime.imagelogins import Login
from runtime.messages import FetchRequest, FetchResponse, Transfer
from runtime.retry import Backoff
from tests.support import engines, imageregistry, lines, ociimages
from tests.support.brokers import HOST
from tests.support.imageregistry import ImageRegistry
from tests.support.ociimages import layer

BUNDLE = Digest("b" * 64)
NAMES = (f"image{number}" for number in itertools.count(1))
HUGE = 1 << 50


class Porter:
    """Brings images as the porter does, and counts."""

    def __init__(self, rig: engines.Rig, directory: Path, **settings: object) -> None:
        self.directory = directory
        self.door, self.logins = EngineDoor(rig.url), Logins(directory)
        reserve_bytes = int(str(settings.pop("reserve_bytes", 0)))
        self.fetcher = Fetcher(
            BlobStore(directory / "blobs"),
            directory / "work",
            _no_offers,
            None,
            backoff=Backoff(first_s=0.001, most_s=0.01),
            **settings,  # type: ignore[arg-type] # checked by running
        )
        pull = EnginePull(self.door, self.logins)
        self.freight = Freight(directory / "layers", pull, self.logins, reserve_bytes=reserve_bytes)
        self.told: list[tuple[int, int]] = []

    def bring(
        self,
        image: str,
        terms: Terms = NO_TERMS,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Transfer:
        with self.fetcher.passage(BUNDLE, cancelled=cancelled, terms=terms) as passage:
            self.freight.bring(BUNDLE, image, passage, lambda *told: self.told.append(told))
        return self.cost()

    def cost(self) -> Transfer:
        return self.fetcher.transfer(BUNDLE)


def _no_offers(request: FetchRequest) -> FetchResponse:
    raise LinkError(f"no registry for {request.id}")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageRegistry]:
    with imageregistry.serving(tmp_path_factory.mktemp("images")) as made:
        yield made


@pytest.fixture
def porter(engine_rig: engines.Rig, tmp_path: Path) -> Iterator[Porter]:
    made = Porter(engine_rig, tmp_path)
    yield made
    made.door.close()


def test_an_image_comes_layer_by_layer_and_the_engine_knows_it_by_its_digest(
    porter: Porter, engine: Engine, registry: ImageRegistry
) -> None:
    name = next(NAMES)
    image = ociimages.put(registry, name, [layer(name, 300_000), layer("app", 50_000)])

    cost = porter.bring(image.name)

    seen = engine.images.find(image.name)
    assert seen is not None
    assert seen.architecture == ociimages.HERE
    assert cost.whole_bytes == sum(image.layers)
    assert 0 <= cost.received_bytes - cost.whole_bytes < 8192, "index, manifest, configuration"
    assert porter.told[-1] == (sum(image.layers), sum(image.layers))
    assert not (porter.directory / "layers" / BUNDLE).exists()


def test_of_the_next_version_only_the_layers_that_changed_come(
    porter: Porter, registry: ImageRegistry
) -> None:
    name = next(NAMES)
    base = layer(name, 400_000)
    porter.bring(ociimages.put(registry, name, [base, layer("app", 30_000)]).name)
    before = porter.cost().received_bytes
    two = ociimages.put(registry, name, [base, layer("app", 30_000, seed=2)])

    cost = porter.bring(two.name)

    assert cost.received_bytes - before < 30_000 + 8192
    assert porter.told[-1] == (two.layers[1], two.layers[1])


def test_twenty_cuts_cost_at_most_a_twentieth_more_bytes_than_none(
    porter: Porter, engine: Engine, registry: ImageRegistry
) -> None:
    name = next(NAMES)
    image = ociimages.put(registry, name, [layer(name, 3_000_000), layer("app", 1_000_000)])
    cuts = sorted(random.Random(7).sample(range(10_000, sum(image.layers)), 20))

    with lines.line(registry.port, cuts=cuts) as line:
        cost = porter.bring(image.by(line.port))
        assert engine.images.find(image.by(line.port)) is not None
        carried = line.to_client

    assert line.connections > 20
    assert cost.received_bytes <= 1.01 * sum(image.layers) + 8192
    assert carried <= 1.05 * sum(image.layers)


def test_a_bundle_that_is_cancelled_goes_on_from_its_last_byte(
    porter: Porter, registry: ImageRegistry
) -> None:
    name = next(NAMES)
    image = ociimages.put(registry, name, [layer(name, 2_000_000)])

    def half() -> bool:
        return porter.cost().received_bytes > 1_000_000

    with pytest.raises(FetchCancelledError):
        porter.bring(image.name, cancelled=half)
    cost = porter.bring(image.name)

    assert porter.told[0] == (0, image.layers[0])
    assert cost.received_bytes < sum(image.layers) + 16_384


def test_layers_come_no_faster_than_the_rate(
    engine_rig: engines.Rig, registry: ImageRegistry, tmp_path: Path
) -> None:
    name, rate = next(NAMES), 1_000_000
    image = ociimages.put(registry, name, [layer(name, 2_000_000)])
    porter = Porter(engine_rig, tmp_path, pace=Pace(rate))

    began = time.monotonic()
    porter.bring(image.name)

    assert time.monotonic() - began >= sum(image.layers) / rate - 0.25


def test_a_budget_ends_it_and_a_larger_one_goes_on(porter: Porter, registry: ImageRegistry) -> None:
    name = next(NAMES)
    image = ociimages.put(registry, name, [layer(name, 3_000_000)])

    with pytest.raises(BudgetError, match="1500000 of 1500000 bytes"):
        porter.bring(image.name, Terms("d/0", budget_bytes=1_500_000))
    assert porter.cost().received_bytes <= 1_500_000
    cost = porter.bring(image.name, Terms("d/0", budget_bytes=5_000_000))

    assert cost.received_bytes < sum(image.layers) + 16_384


def test_a_metered_link_and_a_shut_window_let_no_byte_through(
    engine_rig: engines.Rig, registry: ImageRegistry, tmp_path: Path
) -> None:
    image = ociimages.put(registry, next(NAMES), [layer("app", 1000)])
    porter = Porter(engine_rig, tmp_path, metered=True)

    with pytest.raises(NotNowError, match="not metered"):
        porter.bring(image.name, Terms(metered=False))
    with pytest.raises(NotNowError, match="window"):
        porter.bring(image.name, Terms(not_before=time.time() + 3600))

    assert porter.cost().received_bytes == 0


def test_a_disk_without_room_is_told_before_a_layer_comes(
    engine_rig: engines.Rig, registry: ImageRegistry, tmp_path: Path
) -> None:
    name = next(NAMES)
    image = ociimages.put(registry, name, [layer(name, 500_000)])
    porter = Porter(engine_rig, tmp_path, reserve_bytes=HUGE)

    with pytest.raises(SpaceError, match=r"^disk: "):
        porter.bring(image.name)

    assert porter.cost().received_bytes < 8192


def test_an_image_for_other_machines_is_refused_with_those_that_there_are(
    porter: Porter, registry: ImageRegistry
) -> None:
    image = ociimages.put(
        registry, next(NAMES), [layer("app", 1000)], architectures=("arm64", "s390x")
    )

    with pytest.raises(NoImageError, match=r"no image for linux/amd64.*linux/arm64, linux/s390x"):
        porter.bring(image.name)


def test_a_layer_with_other_bytes_than_promised_never_reaches_the_engine(
    porter: Porter, engine: Engine, registry: ImageRegistry
) -> None:
    name = next(NAMES)
    image = ociimages.put(registry, name, [layer(name, 200_000)])
    largest = max(
        registry.directory.glob("docker/registry/v2/blobs/sha256/??/*/data"),
        key=lambda path: (path.stat().st_size == image.layers[0], path.stat().st_mtime),
    )
    data = bytearray(largest.read_bytes())
    data[1000] ^= 1
    largest.write_bytes(data)

    with pytest.raises(IntegrityError, match="fetched 3 times"):
        porter.bring(image.name)

    assert engine.images.find(image.name) is None
    shutil.rmtree(largest.parent)


def test_a_registry_that_wants_a_login_says_who_it_refuses(
    porter: Porter, engine: Engine, tmp_path: Path
) -> None:
    known = imageregistry.CREDENTIALS
    with imageregistry.serving(tmp_path, guarded=True) as guarded:
        image = ociimages.put(guarded, "closed", [layer("app", 1000)], login=known)
        host = f"{HOST}:{guarded.port}"
        with pytest.raises(ImageError, match="lets in only who logs in"):
            porter.bring(image.name)
        porter.logins.write(host, Login(known.username, "wrong"))
        with pytest.raises(ImageError, match=f"{host} refuses the login of carrier"):
            porter.bring(image.name)
        porter.logins.write(host, Login(known.username, known.password))

        porter.bring(image.name)

        assert engine.images.find(image.name) is not None


def test_an_image_that_nobody_has_is_not_asked_for_again(
    porter: Porter, registry: ImageRegistry
) -> None:
    with pytest.raises(NoImageError, match="manifest unknown"):
        porter.bring(f"{registry.repository('nothing')}@sha256:{'1' * 64}")
