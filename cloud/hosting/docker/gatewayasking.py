"""Asks a service's gateway where the engine publishes it, as a client on this machine would."""

import http.client
from urllib.parse import urlsplit

from cloud.hosting.errors import RefusedError, UnreachableError
from cloud.hosting.targets import MAX_REPLY_BYTES, REVISION_HEADER, Question


def ask(service: str, url: str, revision: str, question: Question) -> tuple[int, bytes]:
    """Return status and body of the answer; raise UnreachableError if none comes."""
    parts = urlsplit(url)
    headers = {
        **question.headers,
        "Content-Type": "application/json",
        REVISION_HEADER: revision,
    }
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port, timeout=question.timeout_s
    )
    try:
        connection.request("POST", question.path, question.body, headers)
        answer = connection.getresponse()
        data = answer.read(MAX_REPLY_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        why = str(error) or type(error).__name__
        raise UnreachableError(f"{service}: {url} does not answer from here: {why}") from error
    finally:
        connection.close()
    if len(data) > MAX_REPLY_BYTES:
        raise RefusedError(f"{service}: its answer is over {MAX_REPLY_BYTES} bytes")
    return answer.status, data
