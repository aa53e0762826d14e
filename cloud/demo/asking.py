"""An application on each device: asks for a prediction again and again, over the local socket.

It speaks the Open Inference Protocol as any application would, and counts what fails.
"""

import http.client
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud.demo.score import Key
from runtime import unixsockets

PAUSE_S = 0.05
TIMEOUT_S = 30.0
OK = 200


@dataclass
class Asker:
    """Asks `model` on every device, one after the other, from start() to stop()."""

    sockets: dict[str, Path]
    """Device to the socket of the model."""
    model: str
    inputs: list[dict[str, Any]]
    """Input tensors, as the protocol writes them."""
    answered: list[Key] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="asker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the request in hand."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(TIMEOUT_S)

    def _run(self) -> None:
        number = 0
        while not self._stopping.is_set():
            for device, path in self.sockets.items():
                number += 1
                self._ask(device, path, f"ask-{number}")
            self._stopping.wait(PAUSE_S)

    def _ask(self, device: str, path: Path, request: str) -> None:
        connection = unixsockets.HTTPConnection(path, timeout_s=TIMEOUT_S)
        try:
            body = json.dumps({"id": request, "inputs": self.inputs})
            headers = {"Content-Type": "application/json"}
            connection.request("POST", f"/v2/models/{self.model}/infer", body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != OK:
                self.failures.append(f"{device}: {answer.status} {content[:200]!r}")
                return
            self.versions.add(json.loads(content)["model_version"])
            self.answered.append((device, self.model, f"request:{request}"))
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            self.failures.append(f"{device}: {type(error).__name__}: {error}")
        finally:
            connection.close()
