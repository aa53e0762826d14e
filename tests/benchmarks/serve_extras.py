"""What only our server is measured in: batching on and off, 200 reloads, the gateway before it.

Each makes a server of its own, so nothing here changes what the comparison measures.
"""

import contextlib
import dataclasses
import hashlib
import http.client
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from runtime.gateway import config
from runtime.gateway.config import Config, Key, Revision
from tests.benchmarks import serve_load, serve_models, serve_peers
from tests.benchmarks.serve_load import Stream
from tests.benchmarks.serve_models import IMAGE, TINY
from tests.benchmarks.serve_peers import Kind, Launch, Running, Site

BATCHED = (("tiny", "json", 32, 32), ("image", "binary", 8, 8))
"""Model, form, connections, largest batch."""
RELOADS, QUICK_RELOADS, WARM_RELOADS = 200, 60, 20
SAMPLE_EVERY, SAMPLES = 5, 5
"""Memory goes up and down by some 10 MB from one reload to the next: medians of so many samples."""
GATEWAY_CONNECTIONS = 8

Figures = dict[str, dict[str, float]]


SECRET = "bench-only"


@dataclasses.dataclass(frozen=True)
class Extras:
    """What is measured, for how long, with which program."""

    models: Mapping[str, Path]
    seconds: float
    program: Path
    reloads: int = RELOADS

    def measure(self, sections: Collection[str]) -> Figures:
        """Return what was asked for, by case."""
        figures: Figures = {}
        if "batching" in sections:
            figures |= self.batching()
        if "reload" in sections:
            figures["reload"] = self.reloading()
        if "gateway" in sections:
            figures["gateway"] = self.gateway()
        return figures

    def batching(self) -> Figures:
        """Return what the same load gives with and without dynamic batching."""
        figures: Figures = {}
        for name, form, connections, size in BATCHED:
            question = serve_models.question(name, self.models[name])
            with tempfile.TemporaryDirectory(prefix="ph-batched-") as made:
                batched = serve_models.write_batched(Path(made), self.models[name], name, size)
                for word, path in (("off", self.models[name]), ("on", batched)):
                    with self._serving({name: path}) as server:
                        serve_load.check(server, question, form)
                        stream = Stream(question, form, connections)
                        load = serve_load.load(server, [stream], self.seconds)[0]
                        serve_load.check(server, question, form)
                    figures[f"batching {word}: {name} {form} c{connections}"] = load.figures()
        return figures

    def reloading(self) -> dict[str, float]:
        """Return how memory grows while the image model is unloaded and loaded again and again."""
        question = serve_models.question(IMAGE, self.models[IMAGE])
        sizes = []
        with tempfile.TemporaryDirectory(prefix="ph-repository-") as made:
            (Path(made) / IMAGE / "1").mkdir(parents=True)
            shutil.copy(self.models[IMAGE], Path(made) / IMAGE / "1" / "model.onnx")
            with self._serving({}, "--repository", made, "--repository-api") as server:
                for number in range(1, self.reloads + 1):
                    _post(server, f"/v2/repository/models/{IMAGE}/unload")
                    _post(server, f"/v2/repository/models/{IMAGE}/load")
                    if number >= WARM_RELOADS and number % SAMPLE_EVERY == 0:
                        serve_load.check(server, question, "binary")
                        sizes.append(server.pss_mb())
        first, last = serve_load.median(sizes[:SAMPLES]), serve_load.median(sizes[-SAMPLES:])
        return {"reloads": self.reloads, "pss_mb": last, "growth_mb": last - first}

    def gateway(self) -> dict[str, float]:
        """Return what the gateway costs: a key asked for, one revision, one backend."""
        question = serve_models.question(TINY, self.models[TINY])
        with self._serving({TINY: self.models[TINY]}) as direct, self._before(direct) as server:
            key = {"Authorization": f"Bearer {SECRET}"}
            serve_load.check(server, question, "json", extra=key)
            alone = serve_load.load(direct, [Stream(question, "json", 1)], self.seconds)[0]
            one = serve_load.load(server, [Stream(question, "json", 1, key)], self.seconds)[0]
            stream = Stream(question, "json", GATEWAY_CONNECTIONS, key)
            many = serve_load.load(server, [stream], self.seconds)[0].figures()
        without = alone.figures()["p50_ms"]
        added = one.figures()["p50_ms"] - without
        return {"direct_p50_ms": without, "added_p50_ms": added, **many}

    @contextlib.contextmanager
    def _serving(self, models: Mapping[str, Path], *options: str) -> Iterator[Running]:
        """Have our server, started with these options too."""

        def launch(site: Site) -> Launch:
            return Launch([*serve_peers.ours(site).argv, *options])

        kind = Kind("ours", launch, serve_peers.FORMS)
        with serve_peers.running(kind, models, self.program) as server:
            yield server

    @contextlib.contextmanager
    def _before(self, server: Running) -> Iterator[Running]:
        """Have a gateway before a server."""
        revision = Revision(name="r1", weight=100, backends=(f"127.0.0.1:{server.http_port}",))
        key = Key(name="bench", sha256=hashlib.sha256(SECRET.encode()).hexdigest())

        def launch(site: Site) -> Launch:
            path = site.place / "gateway.json"
            told = Config(service="bench", generation=1, revisions=(revision,), keys=(key,))
            path.write_bytes(config.encode(told))
            ports = ["--http-port", str(site.http_port), "--admin-port", str(site.grpc_port)]
            return Launch([str(site.program), "gateway", "--config", str(path), *ports])

        kind = Kind("gateway", launch, frozenset({"json"}))
        with serve_peers.running(kind, {}, self.program) as gate:
            yield gate


def _post(server: Running, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", path, b"{}", {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise SystemExit(f"{path}: {answer.status} {body!r:.300}")
