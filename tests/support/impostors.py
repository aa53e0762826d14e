"""A device of the fleet that means its neighbours harm: enrolled and certified, and lying.

with impostors.impostor(agent, "lies") as bad:
    bad.offers_to_give(built)    the registry now names it to those who ask after it
"""

import contextlib
import http.server
import secrets
import threading
from collections.abc import Iterator

import msgspec

from edge_agent import enrol
from edge_agent.lan.sharing import Papers
from edge_agent.lan.shelf import State
from edge_agent.uplink import MqttUplink, UplinkHooks
from runtime import topics
from runtime.bundle import encodings
from runtime.bundle.build import Built
from runtime.bundle.parts import PART_BYTES
from runtime.link import LinkSettings
from runtime.messages import FetchRequest, Reported
from tests.support.processes import Agent, eventually

MANNERS = ("lies", "drips", "stalls", "breaks its word", "is dead")
MANY_PARTS = 16


class Impostor:
    """One of them; it counts whom it has met."""

    def __init__(self, agent: Agent, manner: str) -> None:
        """`agent` is an enrolled device that does not run."""
        self._agent, self._manner, self._ending = agent, manner, threading.Event()
        identity = agent.data / "identity"
        names = (identity / "ca.pem", identity / "device.pem", identity / "device.key")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        server.socket = Papers(*names).for_giving().wrap_socket(server.socket, server_side=True)
        self._server, self.asked = server, 0
        self.address = f"127.0.0.1:{server.server_address[1]}"
        self._thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)

    def start(self) -> None:
        """Listen, unless it is dead."""
        if self._manner == "is dead":
            self._server.server_close()
        else:
            self._thread.start()

    def stop(self) -> None:
        """End."""
        self._ending.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()

    def offers_to_give(self, built: Built) -> None:
        """Ask the registry as a device does that is about to download, and never do."""
        known = enrol.load(self._agent.data)
        assert known is not None
        directory, device = self._agent.data / "identity", topics.device_id(known.device)
        link = LinkSettings(
            host=known.broker_host,
            port=known.broker_port,
            client_id=device,
            ca_file=directory / "ca.pem",
            cert_file=directory / "device.pem",
            key_file=directory / "device.key",
        )
        uplink = MqttUplink(link, device, heartbeat_s=60)
        uplink.start(_deaf(Reported(device, 0, 0.0)))
        try:
            eventually(lambda: uplink.connected, "it is connected")
            blobs = (built.digest, *built.files)
            request = FetchRequest(
                secrets.token_hex(8),
                blobs,
                encodings.DECODABLE,
                bundle=built.digest,
                memory_bytes=1 << 26,
                lan=self.address,
            )
            answer = uplink.ask(request)
            assert {one.blob for one in answer.offers} == set(blobs), answer.error
        finally:
            uplink.stop(5)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        impostor = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                """Say nothing."""

            def do_GET(self) -> None:
                impostor.asked += 1
                with contextlib.suppress(OSError):
                    impostor._answer(self, state=self.path.count("/") == 2)

        return Handler

    def _answer(self, handler: http.server.BaseHTTPRequestHandler, *, state: bool) -> None:
        if self._manner == "stalls":
            self._ending.wait()
            return
        word = State(f"{(1 << MANY_PARTS) - 1:x}", MANY_PARTS * PART_BYTES)
        body = msgspec.json.encode(word) if state else bytes(PART_BYTES)
        breaks = self._manner == "breaks its word" and not state
        handler.send_response(404 if breaks else 200)
        handler.send_header("Content-Length", str(0 if breaks else len(body)))
        handler.end_headers()
        if breaks:
            return
        if self._manner == "drips" and not state:
            for at in range(len(body)):
                handler.wfile.write(body[at : at + 1])
                if self._ending.wait(0.2):
                    return
        handler.wfile.write(body)


def _deaf(report: Reported) -> UplinkHooks:
    return UplinkHooks(
        connected=lambda: None,
        disconnected=lambda _reason: None,
        desired=lambda _payload: None,
        ack=lambda _payload: None,
        command=lambda _payload: None,
        compose=lambda: report,
    )


@contextlib.contextmanager
def impostor(agent: Agent, manner: str) -> Iterator[Impostor]:
    """Run one."""
    made = Impostor(agent, manner)
    made.start()
    try:
        yield made
    finally:
        made.stop()
