"""What only our server is measured in: batching on and off, 200 reloads, the gateway before it.

Each makes a server of its own, so nothing here changes what the comparison measures.
"""

import contextlib
import hashlib
import http.client
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from runtime.gateway import config
from runtime.gateway.config import Config, Key, Revision
from tests.benchmarks import serve_load, serve_models, serve_peers
from tests.benchmarks.serve_load import Stream
from tests.benchmarks.serve_models import IMAGE, TINY
from tests.benchmarks.serve_peers import Kind, Launch, Running, Site

OURS = "ours"
BATCHED = (("tiny", "json", 32, 32), ("image", "binary", 8, 8))
"""Model, form, connections, largest batch."""
RELOADS, WARM_RELOADS = 200, 20
GATEWAY_CONNECTIONS = 8

Figures = dict[str, dict[str, float]]


def measure(sections: Collection[str], models: Mapping[str, Path], seconds: float) -> Figures:
    """Return what was asked for, by case."""
    figures: Figures = {}
    if "batching" in sections:
        figures |= batching(models, seconds)
    if "reload" in sections:
        figures["reload"] = reloads(models)
    if "gateway" in sections:
        figures["gateway"] = gateway(models, seconds)
    return figures


def batching(models: Mapping[str, Path], seconds: float) -> Figures:
    """Return what the same load gives with and without dynamic batching."""
    figures: Figures = {}
    for name, form, connections, size in BATCHED:
        with tempfile.TemporaryDirectory(prefix="ph-batched-") as made:
            batched = serve_models.write_batched(Path(made), models[name], name, size)
            for word, path in (("off", models[name]), ("on", batched)):
                question = serve_models.question(name, models[name])
                with serve_peers.running(_kind(), {name: path}) as server:
                    serve_load.check(server, question, form)
                    stream = Stream(question, form, connections)
                    load = serve_load.load(server, [stream], seconds)[0]
                    serve_load.check(server, question, form)
                figures[f"batching {word}: {name} {form} c{connections}"] = load.figures()
    return figures


def reloads(models: Mapping[str, Path]) -> dict[str, float]:
    """Return how memory grows while the image model is unloaded and loaded again and again."""
    question = serve_models.question(IMAGE, models[IMAGE])
    with serve_peers.running(_kind("--repository-api"), {IMAGE: models[IMAGE]}) as server:
        sizes = []
        for number in range(1, RELOADS + 1):
            _post(server, f"/v2/repository/models/{IMAGE}/unload")
            _post(server, f"/v2/repository/models/{IMAGE}/load")
            if number in {WARM_RELOADS, RELOADS}:
                serve_load.check(server, question, "binary")
                sizes.append(server.pss_mb())
    return {"reloads": RELOADS, "pss_mb": sizes[-1], "growth_mb": sizes[-1] - sizes[0]}


def gateway(models: Mapping[str, Path], seconds: float) -> dict[str, float]:
    """Return what the gateway costs: a key asked for, one revision, one backend."""
    question = serve_models.question(TINY, models[TINY])
    with serve_peers.running(_kind(), {TINY: models[TINY]}) as direct, _before(direct) as server:
        key = {"Authorization": f"Bearer {SECRET}"}
        serve_load.check(server, question, "json", extra=key)
        alone = serve_load.load(direct, [Stream(question, "json", 1)], seconds)[0]
        one = serve_load.load(server, [Stream(question, "json", 1, key)], seconds)[0]
        stream = Stream(question, "json", GATEWAY_CONNECTIONS, key)
        many = serve_load.load(server, [stream], seconds)[0]
    return {
        "direct_p50_ms": alone.figures()["p50_ms"],
        "added_p50_ms": one.figures()["p50_ms"] - alone.figures()["p50_ms"],
        "req_s": many.figures()["req_s"],
        "cpu_us": many.cpu_us,
    }


SECRET = "bench-only"


@contextlib.contextmanager
def _before(server: Running) -> Iterator[Running]:
    """Have a gateway before a server."""
    program = str(Path(sys.executable).parent / "packhorse-runtime")
    revision = Revision(name="r1", weight=100, backends=(f"127.0.0.1:{server.http_port}",))
    key = Key(name="bench", sha256=hashlib.sha256(SECRET.encode()).hexdigest())

    def launch(site: Site) -> Launch:
        path = site.place / "gateway.json"
        told = Config(service="bench", generation=1, revisions=(revision,), keys=(key,))
        path.write_bytes(config.encode(told))
        ports = ["--http-port", str(site.http_port), "--admin-port", str(site.grpc_port)]
        return Launch([program, "gateway", "--config", str(path), *ports])

    with serve_peers.running(Kind("gateway", launch, frozenset({"json"})), {}) as gate:
        yield gate


def _kind(*options: str) -> Kind:
    """Return our server, started with these options too."""

    def launch(site: Site) -> Launch:
        return Launch([*serve_peers.ours(site).argv, *options])

    return Kind(OURS, launch, serve_peers.FORMS)


def _post(server: Running, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", path, b"{}", {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise SystemExit(f"{path}: {answer.status} {body!r:.300}")
