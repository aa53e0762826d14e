"""The floor of HTTP: an empty ASGI app, which reads nothing and says one fixed thing.

uvicorn with httptools and uvloop, no access log. Arguments: PORT, FILE with the answer.
"""

import sys
from pathlib import Path
from typing import Any

import uvicorn

ANSWER = Path(sys.argv[2]).read_bytes()
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(ANSWER)).encode()),
    ],
}
BODY = {"type": "http.response.body", "body": ANSWER}


async def app(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer."""
    await send(START)
    await send(BODY)


uvicorn.run(
    app, port=int(sys.argv[1]), http="httptools", loop="uvloop", lifespan="off", access_log=False,
    log_level="warning",
)  # fmt: skip
