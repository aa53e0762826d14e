"""A version's check, asked by the registry where the version is served."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.hosting.targets import Question, RevisionWish
from runtime import digests
from runtime.bundle import index
from runtime.bundle.index import Check, FileEntry, Index, Signature, TensorSpec
from tests.support import command_line, hosting, registries
from tests.support.command_line import Run
from tests.support.hosting import Host
from tests.support.registries import Registry

GIVEN = np.array([[1.0, 2.0]], np.float32)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosting.hosting(tmp_path_factory.mktemp("hosting")) as host:
        register_checked(host.registry, "double", GIVEN, GIVEN * 2)
        yield host


@pytest.fixture
def host(shared: Host) -> Iterator[Host]:
    with hosting.alone(shared) as made:
        made.target.answer = times(2)
        made.target.questions.clear()
        yield made


@pytest.fixture(scope="module")
def url(shared: Host) -> Iterator[str]:
    with registries.listening(shared.registry) as made:
        yield made


@pytest.fixture
def run(
    host: Host,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    return command_line.runner(url, host.registry, tmp_path, monkeypatch, capsys)


def register_checked(registry: Registry, name: str, given: Any, wanted: Any) -> None:
    """Register a bundle with golden inputs and outputs, whose model nobody loads."""
    contents = {"model.onnx": b"none", "given.npz": npz(x=given), "wanted.npz": npz(y=wanted)}
    made = Index(
        format=1,
        name=name,
        kind="onnx",
        model="model.onnx",
        files=tuple(
            FileEntry(path, len(data), digests.of_bytes(data))
            for path, data in sorted(contents.items())
        ),
        signature=Signature((tensor("x"),), (tensor("y"),)),
        check=Check("given.npz", "wanted.npz"),
    )
    for data in (*contents.values(), index.encode(made)):
        path = f"/api/v1/blobs/{digests.of_bytes(data)}"
        registries.checked(registry.http.put(path, content=data), 200)
    registry.post(f"/api/v1/models/{name}/versions", {"bundle": index.identity(made)}, 201)


def tensor(name: str) -> TensorSpec:
    return TensorSpec(name, "FP32", (-1, 2))


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def times(factor: float) -> Any:
    """Return a revision that multiplies what it is given, in the protocol's words."""

    def answer(revision: RevisionWish, question: Question) -> tuple[int, bytes]:
        (given,) = json.loads(question.body)["inputs"]
        assert question.path == f"/v2/models/{revision.model}/versions/{revision.version}/infer"
        data = (np.array(given["data"]) * factor).ravel().tolist()
        outputs = [{"name": "y", "datatype": "FP32", "shape": given["shape"], "data": data}]
        return 200, json.dumps({"outputs": outputs}).encode()

    return answer


def verify(host: Host, **body: Any) -> Any:
    (found,) = host.registry.post(f"{host.path}/verify", body, 200)["items"]
    return found


def test_a_revision_that_gives_the_golden_answers_passes(host: Host) -> None:
    host.deploy(model="double")

    found = verify(host, revision="r1")

    assert (found["revision"], found["ok"], found["asked"]) == ("r1", True, True)
    assert found["where"] == f"service {host.name} r1 (docker)"
    assert "p95 is" in found["text"]


def test_one_that_gives_other_answers_fails_with_the_first_that_differs(host: Host) -> None:
    host.deploy(model="double")
    host.target.answer = times(2.5)

    found = verify(host)

    assert (found["ok"], found["asked"]) == (False, True)
    assert "output y differs in 2 of 2 values" in found["text"]


def test_the_registry_asks_with_a_key_of_its_own_that_nobody_else_can_have(host: Host) -> None:
    """The gateway knows it as a hash; it is made nowhere, listed nowhere, and changes nothing."""
    host.deploy(model="double")
    generation = host.show()["generation"]

    assert verify(host)["ok"]

    config = host.target.there[host.name].config
    own = next(each for each in config.keys if each.name == "@registry")
    shown = {each.headers["X-API-Key"] for each in host.target.questions}
    assert {digests.of_bytes(key.encode()) for key in shown} == {own.sha256}
    listed = host.registry.get(f"{host.path}/keys")["items"]
    assert [each["name"] for each in listed] == ["first"]
    assert host.show()["generation"] == generation


@pytest.mark.parametrize("status", [401, 429, 503, 504])
def test_a_gateway_that_reaches_nobody_says_nothing_of_the_model(host: Host, status: int) -> None:
    host.deploy(model="double")
    host.target.answer = lambda _revision, _question: (status, b'{"error": "nobody"}')

    found = verify(host)

    assert (found["ok"], found["asked"]) == (False, False)
    assert f"HTTP {status}" in found["text"]


def test_a_place_that_cannot_be_reached_is_told_as_such(host: Host) -> None:
    host.deploy(model="double")
    host.target.unreachable = "the cluster does not answer"

    found = verify(host)

    assert not found["asked"]
    assert found["text"] == "the cluster does not answer"


def test_only_what_runs_and_has_a_check_can_be_verified(host: Host) -> None:
    host.deploy()
    paths = {"r1": 422, "r2": 404}

    told = {
        name: registries.checked(
            host.registry.http.post(f"{host.path}/verify", json={"revision": name}), status
        )["detail"]
        for name, status in paths.items()
    }

    assert "give its bundle.yaml golden inputs" in told["r1"]
    assert "does not exist" in told["r2"]


def test_a_registry_that_verifies_as_many_as_it_may_sends_others_away(host: Host) -> None:
    host.deploy(model="double")
    verifying = host.registry.services.verifying
    taken = [verifying.acquire(blocking=False) for _ in range(4)]
    try:
        answer = host.registry.http.post(f"{host.path}/verify", json={})
    finally:
        verifying.release(4)

    assert taken == [True] * 4
    assert registries.checked(answer, 503)["retryable"]
    assert verify(host)["ok"]


def test_the_command_line_verifies_what_no_client_here_can_reach(host: Host, run: Run) -> None:
    """The memory target's endpoint leads nowhere: it is the registry that asks."""
    host.deploy(model="double", target={"kind": "kubernetes"})

    good = run("models", "verify", "double:1", "--on", "kubernetes", "--service", host.name)
    host.target.answer = times(3)
    bad = run("models", "verify", "double:1", "--on", "kubernetes", "--service", host.name)
    host.target.unreachable = "the cluster does not answer"
    lost = run("models", "verify", "double:1", "--on", "kubernetes", "--service", host.name)

    assert (good.code, bad.code, lost.code) == (0, 1, 4), (good.err, bad.err, lost.err)
    assert "passed" in good.out
    assert "differs" in bad.err


def test_a_version_without_a_check_or_a_service_cannot_be_verified(run: Run) -> None:
    bare = run("models", "verify", "scale:1", "--on", "docker")
    nowhere = run("models", "verify", "double:1", "--on", "docker")

    assert (bare.code, nowhere.code) == (2, 3)
    assert "it has no check" in bare.err
    assert "packhorse services deploy NAME --bundle double:1" in nowhere.err
