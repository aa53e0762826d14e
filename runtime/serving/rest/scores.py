"""Plain scoring over HTTP: a table in, a table out; see runtime.serving.scoring.

POST /score asks the only model that is served; with several, each has its own path.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from runtime.errors import PackhorseError
from runtime.serving import scoring
from runtime.serving.dataplane import DataPlane
from runtime.serving.rest import coding, infer
from runtime.serving.rest.described import Descriptions
from runtime.serving.rest.known import Known
from runtime.serving.rest.questions import Question
from runtime.serving.scoring import Table
from runtime.serving.served import Served
from runtime.serving.tables import Layout
from runtime.serving.wire.answers import Answer
from runtime.serving.wire.bodies import LARGE_BYTES, Body

NOTHING = Question({}, None)


class Scores:
    """Answers for tables."""

    def __init__(self, plane: DataPlane, described: Descriptions, *, max_body_bytes: int) -> None:
        self._plane, self._described, self._max_body_bytes = plane, described, max_body_bytes

    def score(self, known: Known, body: bytes | Body) -> Coroutine[Any, Any, Answer]:
        """Return what will answer a table."""
        return self._score(known, body, self._described.only(known.place))

    async def _score(self, known: Known, body: bytes | Body, served: Served) -> Answer:
        began = time.perf_counter()
        data = body if isinstance(body, bytes) else body.view
        if known.coding is not None:
            data = await asyncio.to_thread(
                coding.decompress, known.coding, data, self._max_body_bytes
            )
        layout = self._described.of(served).layout
        if len(data) < LARGE_BYTES:
            table = _read(data, known, served, layout)
        else:
            table = await asyncio.to_thread(_read, data, known, served, layout)
        ask = infer.ask_of(known, NOTHING)
        served.tally.decode.observe(time.perf_counter() - began)
        outputs = await self._plane.run(served, table.inputs, None, ask)
        ran_at = time.perf_counter()
        body, kind = scoring.encode(served.name, served.version, table, outputs)
        fields = b"content-type: %b\r\n" % kind.encode() + known.fields
        answer = await infer.packed(known, Answer(200, fields, body))
        served.tally.encode.observe(time.perf_counter() - ran_at)
        return answer


def _read(data: bytes | memoryview, known: Known, served: Served, layout: Layout) -> Table:
    try:
        return scoring.decode(data, known.content_type, layout)
    except PackhorseError:
        served.tally.failed("invalid")
        raise
