import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from runtime import errors as runtime_errors
from runtime.bundle.index import Signature, TensorSpec
from runtime.errors import InvalidError, ModelError, PackhorseError
from runtime.inference.tensors import Arrays
from runtime.serving import errors as serving_errors
from runtime.serving.dataplane import DataPlane
from runtime.serving.library import Library
from runtime.serving.measuring import UNMEASURED
from runtime.serving.protos import health_pb2
from runtime.serving.protos import open_inference_pb2 as pb
from runtime.serving.repository import Repository
from runtime.serving.rpc import caller, status
from runtime.serving.rpc.server import RpcOptions
from runtime.serving.served import Prediction
from tests.support import models, rpc, serving
from tests.support.brokers import eventually
from tests.support.rpc import Client, RunningRpc

X = np.array([[1, 2, 3, 4]], np.float32)
SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 4)),))


class Scripted:
    """A model that does what a test says: a Predictor without a file."""

    signature = SIGNATURE
    callers = 1
    streams = False
    batching = None
    platform = "python"
    output_names = ("y",)

    def __init__(self, *, inline: bool = False) -> None:
        self.inline = inline
        self.begun, self.go = threading.Semaphore(0), threading.Event()

    def predict(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        del outputs
        self.begun.release()
        if not self.go.wait(30):
            raise ModelError("nobody said go")
        return {"y": inputs["x"]}

    def stream(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Iterator[Arrays]:
        yield self.predict(inputs, outputs)

    def close(self) -> None:
        self.go.set()


class Counting(Scripted):
    """Answers in as many pieces as its first value says, then fails if the second is not 0."""

    streams = True

    def stream(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Iterator[Arrays]:
        del outputs
        pieces, fails = inputs["x"][0, :2]
        for n in range(int(pieces)):
            yield {"y": np.full((1, 4), n, np.float32)}
        if fails:
            raise ModelError("it lost count")


class Seen:
    """What was predicted."""

    def __init__(self) -> None:
        self.all: list[Prediction] = []

    def __call__(self, prediction: Prediction) -> None:
        self.all.append(prediction)


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory, seen: Seen) -> Iterator[DataPlane]:
    directory = tmp_path_factory.mktemp("models")
    index = models.install(directory, models.linear_model(), name="linear")
    with serving.plane_of(directory, index, seen) as plane:
        failing = tmp_path_factory.mktemp("failing")
        serving.add(plane, failing, models.install(failing, models.reshape_model(), name="broken"))
        plane.add("counting", "1", Counting())
        yield plane


@pytest.fixture(scope="module")
def running(plane: DataPlane) -> Iterator[RunningRpc]:
    with rpc.serving(plane) as running:
        yield running


@pytest.fixture(scope="module")
def client(running: RunningRpc) -> Iterator[Client]:
    with rpc.client(running.port) as client:
        yield client


def test_a_model_is_asked_and_answers(client: Client) -> None:
    answer = client.call("ModelInfer", rpc.request("linear", X, id="mine"))

    assert rpc.values(answer) == [[10, 10, 10]]
    assert (answer.model_name, answer.model_version, answer.id) == ("linear", "1", "mine")


def test_a_quick_model_and_one_that_waits_answer_alike(
    tmp_path: Path, client: Client, plane: DataPlane
) -> None:
    slowly = DataPlane()
    models.install(tmp_path, models.linear_model(), name="linear")
    slowly.add("linear", "1", plane.find("linear").model, UNMEASURED)

    with rpc.serving(slowly) as other, rpc.client(other.port) as other_client:
        slow = other_client.call("ModelInfer", rpc.request("linear", X))

    assert plane.find("linear").quick
    assert not slowly.find("linear").quick
    assert slow == client.call("ModelInfer", rpc.request("linear", X))


def test_the_server_and_its_models_say_what_they_are(client: Client) -> None:
    server = client.call("ServerMetadata", pb.ServerMetadataRequest())
    model = client.call("ModelMetadata", pb.ModelMetadataRequest(name="linear"))
    config = client.call("ModelConfig", pb.ModelConfigRequest(name="counting")).config

    assert client.call("ServerLive", pb.ServerLiveRequest()).live
    assert client.call("ServerReady", pb.ServerReadyRequest()).ready
    assert client.call("ModelReady", pb.ModelReadyRequest(name="linear", version="1")).ready
    assert server.name == "packhorse"
    assert (list(model.versions), model.platform) == (["1"], "onnxruntime_onnx")
    assert [(i.name, i.datatype, list(i.shape)) for i in model.inputs] == [("x", "FP32", [-1, 4])]
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [("x", 11, [-1, 4])]
    assert (config.max_batch_size, config.model_transaction_policy.decoupled) == (0, True)


def test_what_was_asked_is_counted(client: Client) -> None:
    def counted() -> Any:
        request = pb.ModelStatisticsRequest(name="linear")
        return client.call("ModelStatistics", request).model_stats[0]

    before = counted()
    client.call("ModelInfer", rpc.request("linear", X))
    client.refusal("ModelInfer", rpc.request("linear", X[:, :3]))
    after = counted()

    assert after.inference_count == before.inference_count + 1
    assert after.execution_count == before.execution_count + 1
    assert after.inference_stats.fail.count == before.inference_stats.fail.count + 1
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    every = client.call("ModelStatistics", pb.ModelStatisticsRequest()).model_stats
    assert {stats.name for stats in every} == {"linear", "broken", "counting"}


def test_without_a_repository_models_are_listed_and_stay(client: Client) -> None:
    listed = client.call("RepositoryIndex", pb.RepositoryIndexRequest()).models
    load = client.refusal("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="linear"))

    assert {(m.name, m.version, m.state) for m in listed} == {
        ("linear", "1", "READY"),
        ("broken", "1", "READY"),
        ("counting", "1", "READY"),
    }
    assert load.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("method", "request_", "code", "words"),
    [
        ("ModelInfer", rpc.request("nobody", X), "NOT_FOUND", "nobody"),
        ("ModelInfer", rpc.request("linear", X, version="9"), "NOT_FOUND", "version 9"),
        ("ModelInfer", rpc.request("linear", X, name="z"), "INVALID_ARGUMENT", "'z'"),
        ("ModelInfer", rpc.request("linear", X[:, :3]), "INVALID_ARGUMENT", "inputs[x].shape"),
        ("ModelInfer", rpc.request("linear", X, id="i" * 257), "INVALID_ARGUMENT", "id"),
        ("ModelInfer", rpc.request("broken", X), "INTERNAL", "eshape"),
        ("ModelInfer", rpc.request("counting", X), "INVALID_ARGUMENT", "ModelStreamInfer"),
        ("ModelInfer", b"\xff\xff", "INVALID_ARGUMENT", "ModelInferRequest"),
        ("ModelReady", pb.ModelReadyRequest(name="nobody"), "NOT_FOUND", "nobody"),
        ("ModelMetadata", pb.ModelMetadataRequest(name="nobody"), "NOT_FOUND", "nobody"),
        ("ModelMetadata", b"\xff", "INVALID_ARGUMENT", "ModelMetadataRequest"),
        ("ModelConfig", pb.ModelConfigRequest(name="nobody"), "NOT_FOUND", "nobody"),
        ("ModelStatistics", pb.ModelStatisticsRequest(name="nobody"), "NOT_FOUND", "nobody"),
    ],
)
def test_an_error_has_its_code_and_says_what_to_do(
    client: Client, method: str, request_: Any, code: str, words: str
) -> None:
    refusal = client.refusal(method, request_)

    assert refusal.code() == grpc.StatusCode[code]
    assert words in refusal.details()


def test_outputs_that_are_not_there_are_refused(client: Client) -> None:
    request = rpc.request("linear", X)
    request.outputs.add(name="z")

    refusal = client.refusal("ModelInfer", request)

    assert refusal.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "the model gives y" in refusal.details()


def test_a_method_that_nobody_knows_is_unimplemented(client: Client) -> None:
    ask = client.channel.unary_unary("/inference.GRPCInferenceService/ModelGuess")

    with pytest.raises(grpc.RpcError) as caught:
        ask(b"", timeout=rpc.TIMEOUT_S)

    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_every_error_that_may_arise_has_a_code() -> None:
    arise = [
        kind
        for module in (runtime_errors, serving_errors)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, PackhorseError)
    ]
    served = {InvalidError, ModelError} | {
        kind for kind in arise if kind.__module__ == serving_errors.__name__
    }

    assert served <= set(status.STATUS)


def test_a_stream_answers_each_request_in_turn_and_survives_those_that_fail(
    client: Client,
) -> None:
    pieces, broken = X.copy(), X.copy()
    pieces[0, :2], broken[0, :2] = (2, 0), (1, 1)

    answers = client.stream(
        [
            rpc.request("linear", X, id="a"),
            rpc.request("counting", pieces, id="b"),
            rpc.request("nobody", X, id="c"),
            rpc.request("counting", broken, id="d"),
            b"\xff",
            rpc.request("linear", X, id="e"),
        ]
    )

    got = [(a.infer_response.id, a.error_message != "") for a in answers]
    assert got == [
        ("a", False),
        ("b", False),
        ("b", False),
        ("c", True),
        ("d", False),
        ("d", True),
        ("", True),
        ("e", False),
    ]
    assert "nobody" in answers[3].error_message
    assert "lost count" in answers[5].error_message
    assert rpc.values(answers[2].infer_response) == [[1, 1, 1, 1]]
    finals = [a.infer_response.parameters["triton_final_response"].bool_param for a in answers]
    assert finals[:3] == [True, False, False]


def test_a_stream_says_where_pieces_end_if_asked(client: Client) -> None:
    request = rpc.request("counting", X, id="a")
    request.parameters["triton_enable_empty_final_response"].bool_param = True

    # X asks for one piece, and for a failure after it; the second request for no failure.
    calm = X.copy()
    calm[0, 1] = 0
    request.raw_input_contents[0] = calm.tobytes()
    piece, end = client.stream([request])

    assert len(piece.infer_response.outputs) == 1
    assert len(end.infer_response.outputs) == 0
    assert end.infer_response.id == "a"
    assert end.infer_response.parameters["triton_final_response"].bool_param


def test_a_client_that_leaves_a_stream_frees_its_place(plane: DataPlane) -> None:
    endless = X.copy()
    endless[0, :2] = (1e9, 0)
    options = RpcOptions(max_calls=1)

    with rpc.serving(plane, options=options) as running, rpc.client(running.port) as client:
        ask = client.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        answers = ask(iter([rpc.request("counting", endless).SerializeToString()]))
        next(answers)
        with rpc.client(running.port) as other:
            busy = other.refusal("ModelInfer", rpc.request("linear", X))
            answers.cancel()
            eventually(lambda: other.answers("ModelInfer", rpc.request("linear", X)), "its place")

    assert busy.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_metadata_says_whose_request_it_is(client: Client, seen: Seen) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    client.call(
        "ModelInfer",
        rpc.request("linear", X),
        metadata=(("traceparent", trace), ("x-request-id", "from-the-gateway")),
    )

    assert seen.all[-1].request == "from-the-gateway"
    assert trace.split("-")[1] in str(seen.all[-1].trace)


def test_with_a_key_only_health_is_for_everybody(plane: DataPlane) -> None:
    with rpc.serving(plane, api_key="s3cret") as running, rpc.client(running.port) as client:
        request = rpc.request("linear", X)
        codes = [
            client.refusal("ModelInfer", request, metadata).code()
            for metadata in (
                (),
                (("authorization", "Bearer wrong"),),
                (("authorization", "Basic s3cret"),),
                (("authorization", "Bearer s3crets"),),
            )
        ]
        answer = client.call("ModelInfer", request, (("authorization", "bearer s3cret"),))

        assert set(codes) == {grpc.StatusCode.UNAUTHENTICATED}
        assert rpc.values(answer) == [[10, 10, 10]]
        assert client.call("ServerReady", pb.ServerReadyRequest()).ready
        for method in ("ModelMetadata", "ModelStatistics", "RepositoryModelLoad"):
            assert client.refusal(method, b"").code() == grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            client.stream([request])


def test_metadata_that_is_none_of_ours_is_passed_over() -> None:
    read = caller.read(
        [
            ("authorization", "Basic x"),
            ("traceparent", "00-0-0-0"),
            ("tracestate", "a=b"),
            ("x-bin", b"\0"),
        ]
    )

    assert read == caller.NOBODY
    assert caller.read([("x-request-id", "i" * 300)]).request is None


def test_a_message_larger_than_allowed_is_refused(plane: DataPlane) -> None:
    large = np.zeros((1000, 4), np.float32)
    options = RpcOptions(max_message_bytes=4096)

    with rpc.serving(plane, options=options) as running, rpc.client(running.port) as client:
        refusal = client.refusal("ModelInfer", rpc.request("linear", large))
        packed = client.refusal(
            "ModelInfer", rpc.request("linear", large), compression=grpc.Compression.Gzip
        )

        assert refusal.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert packed.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert rpc.values(client.call("ModelInfer", rpc.request("linear", X))) == [[10, 10, 10]]


def test_requests_that_are_too_large_together_are_told_when_to_come_again() -> None:
    plane, model = DataPlane(), Scripted()
    plane.add("slow", "1", model)
    options = RpcOptions(max_held_bytes=150)

    with rpc.serving(plane, options=options) as running, rpc.client(running.port) as client:
        ask = client.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        held = ask.future(rpc.request("slow", np.zeros((6, 4), np.float32)).SerializeToString())
        assert model.begun.acquire(timeout=30)
        refusal = client.refusal("ModelInfer", rpc.request("slow", X))
        model.go.set()
        held.result(timeout=30)
        plane.close()

    assert refusal.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(refusal.trailing_metadata())["retry-after"] == "1"


@pytest.mark.parametrize(
    ("settings", "options"),
    [({"queue_limit": 0}, RpcOptions()), ({}, RpcOptions(max_calls=1))],
)
def test_too_many_requests_are_told_when_to_come_again(
    settings: dict[str, int], options: RpcOptions
) -> None:
    plane, model = DataPlane(**settings), Scripted()
    plane.add("slow", "1", model)

    with rpc.serving(plane, options=options) as running, rpc.client(running.port) as client:
        # Another connection: grpc itself makes calls of one connection wait.
        with rpc.client(running.port) as other:
            ask = other.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            held = ask.future(rpc.request("slow", X).SerializeToString())
            model.begun.acquire(timeout=1 if settings else 30)
            refusal = client.refusal("ModelInfer", rpc.request("slow", X))
            model.go.set()
            held.cancel()
        plane.close()

    assert refusal.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "retry-after" in dict(refusal.trailing_metadata())


def test_a_request_ends_with_the_time_of_its_client() -> None:
    plane, model = DataPlane(), Scripted()
    plane.add("slow", "1", model)
    patient = rpc.request("slow", X)
    patient.parameters["timeout"].int64_param = 100_000

    with rpc.serving(plane) as running, rpc.client(running.port) as client:
        by_deadline = client.refusal("ModelInfer", rpc.request("slow", X), timeout=0.2)
        by_parameter = client.refusal("ModelInfer", patient)
        patient.parameters["timeout"].string_param = "soon"
        nonsense = client.refusal("ModelInfer", patient)
        model.go.set()
        answer = client.call("ModelInfer", rpc.request("slow", X))
        plane.close()

    assert by_deadline.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert by_parameter.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "nobody expects" in by_parameter.details()
    assert nonsense.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert rpc.values(answer) == X.tolist()


def test_a_request_that_says_no_time_has_the_servers() -> None:
    plane, model = DataPlane(), Scripted()
    plane.add("slow", "1", model)
    patient = rpc.request("slow", X)
    patient.parameters["timeout"].int64_param = 0
    options = RpcOptions(timeout_s=0.1)

    with rpc.serving(plane, options=options) as running, rpc.client(running.port) as client:
        refusal = client.refusal("ModelInfer", patient, timeout=None)
        model.go.set()
        plane.close()

    assert refusal.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_client_that_leaves_takes_its_waiting_request_along() -> None:
    plane, model = DataPlane(), Scripted()
    served = plane.add("slow", "1", model) or plane.find("slow")

    with rpc.serving(plane) as running, rpc.client(running.port) as client:
        ask = client.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        data = rpc.request("slow", X).SerializeToString()
        first, second = ask.future(data), ask.future(data)
        assert model.begun.acquire(timeout=30)
        second.cancel()
        model.go.set()
        assert first.result(timeout=30)
        assert client.call("ModelInfer", rpc.request("slow", X)).model_name == "slow"
        begun = sum(iter(lambda: int(model.begun.acquire(blocking=False)), 0))
        plane.close()

    assert served.name == "slow"
    assert begun <= 2


def test_draining_lets_what_runs_finish_and_takes_nothing_new() -> None:
    plane, model = DataPlane(), Scripted()
    plane.add("slow", "1", model)
    running = RunningRpc(plane)

    with rpc.client(running.port) as client:
        ask = client.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        held = ask.future(rpc.request("slow", X).SerializeToString())
        assert model.begun.acquire(timeout=30)
        draining = asyncio.run_coroutine_threadsafe(running.server.drain(30), running._loop)
        with rpc.client(running.port) as late:

            def refused() -> bool:
                refusal = late.refusal("ModelInfer", rpc.request("slow", X), timeout=1)
                return bool(refusal.code() == grpc.StatusCode.UNAVAILABLE)

            # What came before the server knew that it drains waits behind the one that is held.
            eventually(refused, "nothing new is taken")
        assert not held.done()
        model.go.set()

        assert held.result(timeout=30)
        draining.result(30)
    running.stop()
    plane.close()


def test_a_port_that_is_taken_is_an_error_that_says_so(
    plane: DataPlane, running: RunningRpc
) -> None:
    with pytest.raises(InvalidError, match=f"--grpc-port: '127.0.0.1:{running.port}'"):
        RunningRpc(plane, port=running.port)


def test_a_unix_socket_is_for_this_user_alone(plane: DataPlane, tmp_path: Path) -> None:
    path = tmp_path / "rpc.sock"

    with rpc.serving(plane, uds=path) as running, rpc.client(f"unix:{path}") as client:
        mode = path.stat().st_mode & 0o777
        answer = client.call("ModelInfer", rpc.request("linear", X))

    assert (running.port, mode) == (0, 0o600)
    assert rpc.values(answer) == [[10, 10, 10]]


def test_with_a_repository_models_are_loaded_and_unloaded(tmp_path: Path) -> None:
    models.install(tmp_path / "linear" / "1", models.linear_model(), name="linear")
    models.write(tmp_path / "bad" / "2" / ".index.json", b"{}")
    plane = DataPlane()
    repository = Repository(plane, Library(repository=tmp_path))
    load, unload = pb.RepositoryModelLoadRequest, pb.RepositoryModelUnloadRequest
    with_files = load(model_name="linear")
    with_files.parameters["config"].string_param = "{}"

    with rpc.serving(plane, repository=repository) as running, rpc.client(running.port) as client:

        def listed(*, ready: bool) -> list[tuple[str, str]]:
            answer = client.call("RepositoryIndex", pb.RepositoryIndexRequest(ready=ready))
            return [(entry.name, entry.state) for entry in answer.models]

        none = listed(ready=True)
        client.call("RepositoryModelLoad", load(model_name="linear"))
        answer = client.call("ModelInfer", rpc.request("linear", X))
        bad = client.refusal("RepositoryModelLoad", load(model_name="bad"))
        every, ready = listed(ready=False), listed(ready=True)
        foreign = client.refusal("RepositoryModelLoad", with_files)
        client.call("RepositoryModelUnload", unload(model_name="linear"))
        gone = client.refusal("ModelInfer", rpc.request("linear", X))
        unknown = client.refusal("RepositoryModelUnload", unload(model_name="nobody"))

    assert rpc.values(answer) == [[10, 10, 10]]
    assert (none, ready) == ([], [("linear", "READY")])
    assert every == [("bad", "UNAVAILABLE"), ("linear", "READY")]
    assert bad.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert foreign.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (gone.code(), unknown.code()) == (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.NOT_FOUND)


def test_kubernetes_and_load_balancers_are_told_whether_it_works(plane: DataPlane) -> None:
    with rpc.serving(plane, api_key="s3cret") as running, rpc.client(running.port) as client:
        check = client.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )

        def health(service: str) -> str:
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=rpc.TIMEOUT_S)
            return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

        told = [health(""), health("inference.GRPCInferenceService")]
        plane.draining = True
        try:
            draining = health("")
        finally:
            plane.draining = False
        with pytest.raises(grpc.RpcError) as caught:
            health("linear")

    assert told == ["SERVING"] * 2
    assert draining == "NOT_SERVING"
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_what_is_not_ready_is_told_when_to_come_again(plane: DataPlane) -> None:
    plane.pending["soon", "1"] = "it is loading"
    try:
        with rpc.serving(plane) as running, rpc.client(running.port) as client:
            refusal = client.refusal("ModelInfer", rpc.request("soon", X))
    finally:
        del plane.pending["soon", "1"]

    assert refusal.code() == grpc.StatusCode.UNAVAILABLE
    assert dict(refusal.trailing_metadata())["retry-after"] == "1"


def test_a_server_without_grpc_does_not_import_it() -> None:
    program = "import runtime.serving.process, sys; print({'grpc', 'google'} & set(sys.modules))"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "set()\n"
