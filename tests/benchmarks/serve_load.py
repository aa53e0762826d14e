"""One request, to see whether the answer is right; many, to see how fast they are answered.

wrk asks over HTTP, h2load over gRPC: each one thread, connections that stay open, the next request
of a connection when the last one is answered. h2load has at most MAX_HTTP2 connections; more
requests at once are streams on them. What a request costs in CPU is the server's own share, so it
holds on a busy machine too.
"""

import contextlib
import dataclasses
import http.client
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from tests.benchmarks import serve_models
from tests.benchmarks.serve_models import Array, Question
from tests.benchmarks.serve_peers import Running

METHOD = "/inference.GRPCInferenceService/ModelInfer"
MAX_HTTP2 = 8
TIMEOUT_S = 30
JSON_TYPE, BINARY_TYPE = "application/json", "application/octet-stream"
_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("PH %d %d %d %f %f\\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.timeout + e.status,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


@dataclasses.dataclass(frozen=True)
class Load:
    """What came of many requests."""

    req_s: float
    p50_ms: float | None
    p99_ms: float | None
    errors: int
    cpu_us: float
    """The server's CPU for one request."""

    def figures(self) -> dict[str, float]:
        """Return it as numbers by name; end the run if requests failed: those would be quick."""
        if self.errors:
            raise SystemExit(f"{self.errors} requests failed, {self.req_s:.0f} a second did not")
        found = {"req_s": self.req_s, "cpu_us": self.cpu_us}
        if self.p50_ms is not None and self.p99_ms is not None:
            found |= {"p50_ms": self.p50_ms, "p99_ms": self.p99_ms}
        return found


@dataclasses.dataclass(frozen=True)
class Stream:
    """One load generator's work: a question in one form, from so many connections."""

    question: Question
    form: str
    connections: int
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Sent with each request, over HTTP."""


def ask(
    server: Running, question: Question, form: str, extra: Mapping[str, str] | None = None
) -> Array:
    """Return what a server answers one request."""
    if form == "grpc":
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=options) as channel:
            method: Any = channel.unary_unary(METHOD)
            return serve_models.decode_grpc(method(question.grpc[5:], timeout=TIMEOUT_S))
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        headers = {**_headers(question, form), **(extra or {})}
        connection.request("POST", _path(question), _body(question, form), headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.HTTPStatus.OK:
            what = f"{server.kind.name} {question.model} {form}"
            raise SystemExit(f"{what}: {answer.status} {body!r:.500}")
        told = {name.lower(): value for name, value in answer.getheaders()}
    if "inference-header-content-length" in told:
        return serve_models.decode_binary(body, told)
    return serve_models.decode_json(body)


def check(
    server: Running, question: Question, form: str, extra: Mapping[str, str] | None = None
) -> None:
    """Fail unless a server answers as onnxruntime does in process."""
    got = ask(server, question, form, extra)
    if not question.accepts(got):
        raise SystemExit(f"{server.kind.name} {question.model} {form}: wrong answer {got!r:.300}")


def load(server: Running, streams: Sequence[Stream], seconds: float) -> list[Load]:
    """Ask for so long, all streams at once; return what came of each.

    With several streams the CPU is that of all their requests, on each.
    """
    with tempfile.TemporaryDirectory(prefix="ph-load-") as made, contextlib.ExitStack() as stack:
        before = server.cpu_s()
        begun = [
            stack.enter_context(_started(server, stream, seconds, Path(made) / str(number)))
            for number, stream in enumerate(streams)
        ]
        told = [child.communicate(timeout=seconds + TIMEOUT_S)[0].decode() for child in begun]
        used = server.cpu_s() - before
    parsed = [
        _of_h2load(text) if stream.form == "grpc" else _of_wrk(text)
        for stream, text in zip(streams, told, strict=True)
    ]
    total = sum(requests for requests, _ in parsed) or 1
    return [dataclasses.replace(found, cpu_us=used / total * 1e6) for _, found in parsed]


@contextlib.contextmanager
def _started(
    server: Running, stream: Stream, seconds: float, place: Path
) -> Iterator[subprocess.Popen[bytes]]:
    place.mkdir()
    make = _h2load if stream.form == "grpc" else _wrk
    child = subprocess.Popen(
        make(server, stream, seconds, place), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _wrk(server: Running, stream: Stream, seconds: float, place: Path) -> list[str]:
    (place / "body").write_bytes(_body(stream.question, stream.form))
    headers = {**_headers(stream.question, stream.form), **stream.headers}
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    script = f'wrk.method = "POST"\nwrk.body = io.open("{place}/body", "rb"):read("*a")\n'
    (place / "load.lua").write_text(script + "\n".join(lines) + _DONE)
    url = f"http://127.0.0.1:{server.http_port}{_path(stream.question)}"
    connections = str(stream.connections)
    # wrk takes whole seconds.
    return [
        "wrk", "-t1", "-c", connections, "-d", f"{max(1, round(seconds))}s", "--timeout",
        f"{TIMEOUT_S}s", "-s", str(place / "load.lua"), url,
    ]  # fmt: skip


def _h2load(server: Running, stream: Stream, seconds: float, place: Path) -> list[str]:
    (place / "body").write_bytes(stream.question.grpc)
    connections = min(MAX_HTTP2, stream.connections)
    return [
        "h2load", "-t1", "-c", str(connections), "-m", str(stream.connections // connections),
        "-D", str(max(1, round(seconds))), "-d", str(place / "body"),
        "-H", "content-type: application/grpc", "-H", "te: trailers",
        f"http://127.0.0.1:{server.grpc_port}{METHOD}",
    ]  # fmt: skip


def _of_wrk(told: str) -> tuple[int, Load]:
    found = re.search(r"^PH (\d+) (\d+) (\d+) (\S+) (\S+)$", told, re.MULTILINE)
    if found is None:
        raise SystemExit(f"wrk: {told}")
    requests, duration_us, errors = map(int, found.groups()[:3])
    p50, p99 = map(float, found.groups()[3:])
    return requests, Load(requests / duration_us * 1e6, p50, p99, errors, 0.0)


def _of_h2load(told: str) -> tuple[int, Load]:
    rate = re.search(r"^finished in \S+, (\S+) req/s", told, re.MULTILINE)
    done = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", told)
    good = re.search(
        r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", told, re.MULTILINE
    )
    if rate is None or done is None or good is None:
        raise SystemExit(f"h2load: {told}")
    errors = sum(map(int, done.groups()[1:])) + sum(map(int, good.groups()[1:]))
    return int(done[1]), Load(float(rate[1]), None, None, errors, 0.0)


def _path(question: Question) -> str:
    return f"/v2/models/{question.model}/infer"


def _body(question: Question, form: str) -> bytes:
    return question.json if form == "json" else question.binary


def _headers(question: Question, form: str) -> dict[str, str]:
    if form == "json":
        return {"Content-Type": JSON_TYPE}
    return {
        "Content-Type": BINARY_TYPE,
        "Inference-Header-Content-Length": str(question.header_bytes),
    }


def idle_cpu(server: Running, seconds: float) -> float:
    """Return the cores that a server uses while nobody asks."""
    before, began = server.cpu_s(), time.perf_counter()
    time.sleep(seconds)
    return (server.cpu_s() - before) / (time.perf_counter() - began)


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)
