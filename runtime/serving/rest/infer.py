"""Inference over HTTP: from a body to an answer, at once or in steps.

    quick model, small body     decode, run, encode: in the event loop, within `data_received`
    other model, small body     decode and encode in the event loop, run in the model's threads
    large JSON                  decode and encode in the codec's process
    compressed body or answer   (de)compressed in a thread beside the event loop

So whatever takes longer than a fraction of a millisecond is not done where other clients wait.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from runtime.errors import PackhorseError
from runtime.inference.tensors import Arrays
from runtime.serving.dataplane import DataPlane
from runtime.serving.rest import coding, questions, replies, status
from runtime.serving.rest.known import Known
from runtime.serving.rest.questions import Question
from runtime.serving.served import Ask, Served
from runtime.serving.wire.answers import JSON, Answer, Stream
from runtime.serving.wire.app import Reply
from runtime.serving.wire.bodies import LARGE_BYTES, Body

LARGE_ELEMENTS = 8 * 1024
"""Of all outputs, from which their JSON is large."""
EVENTS = b"content-type: text/event-stream\r\ncache-control: no-store\r\n"


class Codec(Protocol):
    """Reads and writes large JSON, beside the event loop."""

    async def read(self, body: bytes | Body, served: Served) -> Question:
        """Do what questions.read does."""
        ...

    async def write(self, served: Served, asked: Question, outputs: Arrays) -> memoryview:
        """Do what replies.body_of does."""
        ...


Detour = Callable[
    [Served, Arrays, Sequence[str] | None, Ask], Awaitable[tuple[Served, Arrays] | None]
]
"""May answer in a model's place, and says as whom; None: the model itself shall."""


class Infer:
    """Answers inference requests."""

    def __init__(self, plane: DataPlane, codec: Codec | None, *, max_body_bytes: int) -> None:
        self._plane, self._codec, self._max_body_bytes = plane, codec, max_body_bytes
        self._find = plane.find
        self.detour: Detour | None = None
        """Asked first, for requests that name no version."""

    def ask(self, known: Known, body: bytes | Body) -> Reply | Coroutine[Any, Any, Reply]:
        """Return the answer, or what will give it; raise what the request is refused for."""
        place = known.place
        served = self._find(place.name or "", place.version)
        if self.detour is not None or not served.quick or not known.plain:
            return self._later(known, body, served)
        if not isinstance(body, bytes):
            return self._later(known, body, served)
        if len(body) >= LARGE_BYTES:
            return self._later(known, body, served)
        began = time.perf_counter()
        asked = _read(body, known, served)
        if not served.fits(asked.inputs):
            return self._run(known, asked, served, began)
        read_at = time.perf_counter()
        outputs = self._plane.run_now(served, asked.inputs, asked.wanted, ask_of(known, asked))
        ran_at = time.perf_counter()
        answer = replies.write(served, asked, outputs, known.fields)
        tally = served.tally
        tally.decode.observe(read_at - began)
        tally.encode.observe(time.perf_counter() - ran_at)
        return answer

    async def _later(self, known: Known, body: bytes | Body, served: Served) -> Reply:
        began = time.perf_counter()
        if known.coding is not None:
            body = await self._unpacked(known.coding, body)
        size = len(body if isinstance(body, bytes) else body.view)
        if known.json_bytes is None and size >= LARGE_BYTES and self._codec is not None:
            asked = await self._codec.read(body, served)
        else:
            asked = _read(body if isinstance(body, bytes) else body.view, known, served)
        del body
        return await self._run(known, asked, served, began)

    async def _run(self, known: Known, asked: Question, served: Served, began: float) -> Reply:
        served.tally.decode.observe(time.perf_counter() - began)
        ask = ask_of(known, asked)
        if served.streams:
            return Stream(200, EVENTS + known.fields, self._events(served, asked, ask))
        served, outputs = await self._outputs(known, asked, served, ask)
        ran_at = time.perf_counter()
        answer = await self._written(known, asked, served, outputs)
        served.tally.encode.observe(time.perf_counter() - ran_at)
        return answer

    async def _outputs(
        self, known: Known, asked: Question, served: Served, ask: Ask
    ) -> tuple[Served, Arrays]:
        """Return an answer, and who gave it."""
        if self.detour is not None and known.place.version is None:
            found = await self.detour(served, asked.inputs, asked.wanted, ask)
            if found is not None:
                return found
        return served, await self._plane.run(served, asked.inputs, asked.wanted, ask)

    async def _written(
        self, known: Known, asked: Question, served: Served, outputs: Arrays
    ) -> Answer:
        elements = sum(array.size for name, array in outputs.items() if not asked.as_binary(name))
        if elements >= LARGE_ELEMENTS and self._codec is not None and asked.binary is False:
            body = await self._codec.write(served, asked, outputs)
            answer = Answer(200, JSON + known.fields, body)
        else:
            answer = replies.write(served, asked, outputs, known.fields)
        return await packed(known, answer)

    async def _unpacked(self, name: str, body: bytes | Body) -> bytes:
        data = body if isinstance(body, bytes) else body.view
        return await asyncio.to_thread(coding.decompress, name, data, self._max_body_bytes)

    async def _events(
        self, served: Served, asked: Question, ask: Ask
    ) -> AsyncGenerator[bytes, None]:
        """Yield one server-sent event for each piece of an answer, and one for what ends it."""
        try:
            async for outputs in self._plane.stream(served, asked.inputs, asked.wanted, ask):
                yield b"data: %b\n\n" % replies.body_of(served, asked, outputs)
        except PackhorseError as error:
            body = status.failed(error).pieces[0]
            yield b"event: error\ndata: %b\n\n" % bytes(body)


async def packed(known: Known, answer: Answer) -> Answer:
    """Return an answer compressed, if that was asked for and is worth it."""
    if known.accepts is None or answer.size < coding.WORTH_BYTES:
        return answer
    return await asyncio.to_thread(coding.compress, known.accepts, answer)


def ask_of(known: Known, asked: Question) -> Ask:
    """Return what the data plane shall know of a request."""
    if known.ask is not None and asked.id is None and asked.timeout_s is None:
        return known.ask
    waits = [each for each in (known.timeout_s, asked.timeout_s) if each is not None]
    return Ask(
        request=asked.id if asked.id is not None else known.request_id,
        deadline=time.monotonic() + min(waits) if waits else None,
        trace=known.trace,
    )


def _read(body: bytes | memoryview, known: Known, served: Served) -> Question:
    try:
        return questions.read(body, known.json_bytes, served.specs)
    except PackhorseError:
        served.tally.failed("invalid")
        raise
