"""The whole loop with real processes: registry, broker, agents, workers.

On both brokers, and on both kinds of stores.
"""

import contextlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from cloud import shapes
from cloud.client import Client
from cloud.shapes import DeviceProgress, NewDeployment
from tests.support import bundles, parts, processes, stores
from tests.support.processes import Agent, Registry, Traffic, eventually

ROW = [1.0, 2.0, 3.0, 4.0]
MakeAgent = Callable[..., Agent]


@pytest.fixture(scope="module")
def elsewhere(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Give variables for a registry that keeps its rows in PostgreSQL and its blobs in S3."""
    with stores.KINDS["postgresql+s3"](request) as made:
        yield made.environment


@pytest.fixture(scope="module", params=["nats sqlite+directory", "mosquitto postgresql+s3"])
def registry(request: pytest.FixtureRequest) -> Iterator[Registry]:
    """One registry for all tests here; each uses names of its own."""
    broker, kind = request.param.split()
    parts.require({"nats": "nats-server"}.get(broker, broker))
    with_others = {"postgresql+s3": "elsewhere"}
    variables = request.getfixturevalue(with_others[kind]) if kind in with_others else {}
    with (
        processes.scratch() as place,
        processes.registry(place, broker, environment=variables) as running,
    ):
        yield running


@pytest.fixture
def client(registry: Registry) -> Iterator[Client]:
    with registry.client() as opened:
        yield opened


@pytest.fixture
def enrol(registry: Registry) -> Iterator[MakeAgent]:
    """Make agents: enrolled, and started unless told otherwise."""
    with contextlib.ExitStack() as made, processes.scratch() as place:

        def make(name: str, *, starts: bool = True, **labels: str) -> Agent:
            agent = Agent(place / name, registry, name, labels=labels)
            made.callback(agent.stop)
            agent.enrol()
            if starts:
                agent.start()
            return agent

        yield make


def push(client: Client, tmp_path: Path, name: str, **how: object) -> int:
    """Push the next version; it answers its version number times the sum of the row."""
    number = len(list(tmp_path.glob(f"{name}-*"))) + 1
    directory = tmp_path / f"{name}-{number}"
    directory.mkdir()
    bundles.write(directory, name=name, factor=float(number), **how)  # type: ignore[arg-type]
    return processes.push(client, directory)


def deploy(client: Client, name: str, selector: str) -> str:
    return client.deploy(NewDeployment(model=name, selector=selector, soak_s=0.5)).id


def progress(client: Client, deployment: str) -> DeviceProgress:
    """Return where the only device of a deployment is."""
    (only,) = client.deployment(deployment).devices
    return only


def await_stage(client: Client, deployment: str, stage: str) -> DeviceProgress:
    def there() -> bool:
        return [one.stage for one in client.deployment(deployment).devices] == [stage]

    eventually(there, f"{deployment} is {stage}")
    return progress(client, deployment)


def test_a_model_goes_to_a_device_and_what_it_predicts_comes_back(
    client: Client, enrol: MakeAgent, tmp_path: Path
) -> None:
    agent = enrol("loop-a", site="loop")
    assert push(client, tmp_path, "loop") == 1

    deployment = deploy(client, "loop", "site=loop")
    agent.await_answer("loop", 1)
    answer = agent.infer("loop", ROW, request="r-1")

    assert (answer.version, answer.output()) == ("1", [10.0, 10.0, 10.0])
    assert await_stage(client, deployment, "running").healthy

    def found() -> list[shapes.Record]:
        return [one for one in processes.stored(client, model="loop") if one.request == "r-1"]

    eventually(lambda: bool(found()), "the record is in the registry")
    (record,) = found()
    assert (record.device, record.version, record.outputs) == (
        "loop-a",
        1,
        {"y": [[10.0, 10.0, 10.0]]},
    )


def test_a_device_that_was_off_gets_it_when_it_comes_back(
    client: Client, enrol: MakeAgent, tmp_path: Path
) -> None:
    agent = enrol("away-a", starts=False, site="away")
    push(client, tmp_path, "away")
    deployment = deploy(client, "away", "site=away")
    assert progress(client, deployment).stage != "running"

    agent.start()

    agent.await_answer("away", 1)
    await_stage(client, deployment, "running")


def test_a_device_enrolled_later_gets_it_too(
    client: Client, enrol: MakeAgent, tmp_path: Path
) -> None:
    push(client, tmp_path, "later")
    deployment = deploy(client, "later", "site=later")
    assert client.deployment(deployment).devices == []

    agent = enrol("later-a", site="later")

    agent.await_answer("later", 1)
    await_stage(client, deployment, "running")


def test_a_device_boots_and_answers_without_its_registry(
    client: Client, enrol: MakeAgent, registry: Registry, tmp_path: Path
) -> None:
    agent = enrol("alone-a", site="alone")
    push(client, tmp_path, "alone")
    deploy(client, "alone", "site=alone")
    agent.await_answer("alone", 1)
    agent.kill()
    registry.kill()
    try:
        agent.start()
        agent.await_answer("alone", 1)
        agent.infer("alone", ROW, request="r-alone")
    finally:
        registry.start()

    def there() -> bool:
        return "r-alone" in {one.request for one in processes.stored(client, model="alone")}

    eventually(there, "what was predicted offline is in the registry")


def test_a_new_version_takes_over_without_a_failed_request(
    client: Client, enrol: MakeAgent, tmp_path: Path
) -> None:
    agent = enrol("swap-a", site="swap")
    push(client, tmp_path, "swap")
    deploy(client, "swap", "site=swap")
    agent.await_answer("swap", 1)
    traffic = Traffic(agent, "swap", pause_s=0.002)
    traffic.start()
    try:
        for version in (2, 3):
            push(client, tmp_path, "swap")
            deployment = deploy(client, "swap", "site=swap")
            await_stage(client, deployment, "running")
            agent.await_answer("swap", version)
    finally:
        traffic.stop()

    assert traffic.failures == []
    assert set(traffic.answered.values()) >= {"1", "2"}

    def stored() -> set[str | None]:
        return {one.request for one in processes.stored(client, model="swap")}

    eventually(lambda: stored() >= set(traffic.answered), "every answer is in the registry")
    every = [one.request for one in processes.stored(client, model="swap") if one.request]
    assert len(every) == len(set(every))


def test_a_version_that_fails_its_check_never_answers_and_is_not_tried_again(
    client: Client, enrol: MakeAgent, tmp_path: Path
) -> None:
    agent = enrol("check-a", site="check")
    push(client, tmp_path, "check")
    deploy(client, "check", "site=check")
    agent.await_answer("check", 1)
    push(client, tmp_path, "check", passes=False)
    deployment = deploy(client, "check", "site=check")

    failed = await_stage(client, deployment, "failed")

    assert "output y differs" in failed.reason
    assert failed.running is not None
    assert failed.running.version == 1
    assert agent.answers("check", 1)
    agent.kill()
    starts = agent.tail().count("worker started")
    agent.start()
    agent.await_answer("check", 1)
    eventually(
        lambda: await_stage(client, deployment, "failed").running == failed.running,
        "it says again what it runs",
    )
    assert agent.tail().count("worker started") == starts + 1, "only version 1 was started"


def test_a_retry_has_a_refused_version_tried_again(
    client: Client, enrol: MakeAgent, tmp_path: Path
) -> None:
    """What was in the way lies outside the bundle, and an operator removed it."""
    agent = enrol("retry-a", site="retry")
    obstacle = tmp_path / "obstacle"
    obstacle.touch()
    directory = bundles.write(tmp_path / "bundle", name="retry")
    (directory / "entry.py").write_text(
        "from pathlib import Path\n"
        "def init(context):\n"
        f"    if Path({str(obstacle)!r}).exists():\n"
        "        raise RuntimeError('there is an obstacle')\n"
    )
    with (directory / "bundle.yaml").open("a") as yaml:
        yaml.write("entry: entry.py\n")
    processes.push(client, directory)
    deployment = deploy(client, "retry", "site=retry")
    assert "there is an obstacle" in await_stage(client, deployment, "failed").reason

    obstacle.unlink()
    client.retry(deployment)

    agent.await_answer("retry", 1)
    await_stage(client, deployment, "running")


def test_a_cancelled_deployment_gives_way_to_the_one_before_and_then_to_nothing(
    client: Client, enrol: MakeAgent, tmp_path: Path
) -> None:
    agent = enrol("cancel-a", site="cancel")
    push(client, tmp_path, "cancel")
    first = deploy(client, "cancel", "site=cancel")
    agent.await_answer("cancel", 1)
    push(client, tmp_path, "cancel")
    second = deploy(client, "cancel", "site=cancel")
    agent.await_answer("cancel", 2)

    client.cancel(second)
    agent.await_answer("cancel", 1)
    client.cancel(first)

    eventually(lambda: not (agent.data / "run" / "cancel.sock").exists(), "the module is gone")
    eventually(lambda: client.device("cancel-a").modules == [], "and reported as gone")
    assert agent.workers() == []


def test_a_revoked_device_is_shut_out_and_goes_on_alone(
    client: Client, enrol: MakeAgent, registry: Registry, tmp_path: Path
) -> None:
    agent = enrol("revoked-a", site="revoked")
    push(client, tmp_path, "revoked")
    deploy(client, "revoked", "site=revoked")
    agent.await_answer("revoked", 1)

    client.revoke("revoked-a")
    if registry.mosquitto is not None:
        registry.mosquitto.restart()  # deploy/mosquitto/README.md: it cuts nobody off by itself

    eventually(lambda: "mqtt disconnected" in agent.tail(), "it was cut off")
    assert agent.infer("revoked", ROW, request="r-late").status == HTTPStatus.OK
    assert client.device("revoked-a").presence == "offline"
    assert "r-late" not in {one.request for one in processes.stored(client, model="revoked")}
