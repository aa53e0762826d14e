"""Asks a module on this device, as an application beside it would: over its Unix socket."""

import http.client
from pathlib import Path

from edge_agent.errors import NotRunningError
from runtime import unixsockets
from runtime.errors import LinkError

TIMEOUT_S = 60.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024


def infer(
    run_directory: Path, module: str, body: bytes, *, timeout_s: float = TIMEOUT_S
) -> tuple[int, bytes]:
    """POST an inference request (Open Inference Protocol, JSON); return HTTP status and answer.

    Raises NotRunningError if nobody listens at the module's socket, LinkError if no whole answer
    comes within `timeout_s`.
    """
    path = run_directory / f"{module}.sock"
    connection = unixsockets.HTTPConnection(path, timeout_s=timeout_s)
    headers = {"Content-Type": "application/json"}
    try:
        connection.request("POST", f"/v2/models/{module}/infer", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(MAX_ANSWER_BYTES)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunningError(
            f"no module {module} answers at {path}: see `packhorse-agent status`"
        ) from error
    except PermissionError as error:
        raise PermissionError(error.errno, error.strerror, str(path)) from error
    except (OSError, http.client.HTTPException) as error:
        raise LinkError(f"{path}: no answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
