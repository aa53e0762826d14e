"""Replicas that need no model: a small image that answers, crashes or eats memory as it is told.

The variable MODE says how: "" answers, crash, eat, deaf (it runs and never answers).
"""

import io
import tarfile

from runtime.containers.engine import Engine

SCRIPT = b"""
import http.server, json, os, signal, socket, sys, threading, time

mode = os.environ.get("MODE", "")
if mode == "crash":
    sys.exit("the model cannot be loaded: its file is broken")
held = []
while mode == "eat":
    held.append(os.urandom(1 << 20))
draining = False

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(float(os.environ.get("SECONDS", "0")))
        told = {name: os.environ.get(name) for name in ("REVISION", "SECRET")}
        body = json.dumps(told | {"host": socket.gethostname()}).encode()
        self.send_response(503 if draining and "health" in self.path else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

def drain(*_):
    global draining
    draining = True
    print("draining", flush=True)
    threading.Timer(0.5, os._exit, (0,)).start()

signal.signal(signal.SIGTERM, drain)
print("serving", os.environ.get("REVISION"), flush=True)
if mode == "deaf":
    signal.pause()
http.server.ThreadingHTTPServer.daemon_threads = True
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""
IMAGE = "packhorse-test/stand-in:1"


def make(engine: Engine, gateway_image: str) -> str:
    """Return the image; it is made on the gateway's, which has Python and our launcher."""
    lines = (
        f"FROM {gateway_image}",
        "COPY stand_in.py /stand_in.py",
        "ENTRYPOINT []",
        'CMD ["python3", "/stand_in.py"]',
        "HEALTHCHECK NONE",
    )
    files = {"Dockerfile": "\n".join(lines).encode(), "stand_in.py": SCRIPT}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o444
            tar.addfile(member, io.BytesIO(data))
    engine.images.build([packed.getvalue()], IMAGE, lambda _line: None)
    return IMAGE
