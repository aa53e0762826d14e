"""A bundle's own Python: an entry script may define any of these.

    def init(context): ...                   once, before anything else
    def run(inputs): ...                     input name to array -> output name to array
    def source(position=None): ...           a generator of inputs (see edge_agent.worker.sources)

`init` and `run` may be `async def`: several runs are then under way at once, all in one event loop.
A `run` that yields is a stream: each piece is an answer of its own to whoever asks for a stream,
and who does not gets them joined along their first dimension.

`context.predict(inputs)` runs the ONNX model, `context.model` is the model's file for a script that
loads it by itself (kind python), `context.directory` holds all the bundle's files, `context.index`
describes it. What the script raises becomes ModelError in one line; its traceback
goes to the log.
"""

import asyncio
import importlib.util
import inspect
import logging
import sys
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
)
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from runtime.bundle.index import Index
from runtime.errors import ModelError
from runtime.inference import tensors
from runtime.inference.tensors import Arrays

log = logging.getLogger(__name__)

MODULE_NAME = "packhorse_entry"
ASYNC_CALLERS = 16
"""How many runs of an `async def run` may be under way at once."""


@dataclass(frozen=True)
class Context:
    """What a script may use."""

    directory: Path
    predict: Callable[[Mapping[str, Any]], Arrays]
    index: Index

    @property
    def model(self) -> Path:
        """The file that bundle.yaml names as `model`; the directory if it names none."""
        return self.directory / self.index.model


class Entry:
    """A loaded script."""

    def __init__(self, path: Path, context: Context) -> None:
        """Run the file, then its init(); raise ModelError if either fails."""
        self._path = path
        self._loop: asyncio.AbstractEventLoop | None = None
        self._underway: dict[int, asyncio.Task[Any]] = {}
        """By the thread that waits for it."""
        self._module = self._load()
        init = self.function("init", required=False)
        if init is not None:
            self._call("init", init, context)
        self._run = self.function("run", required=False)
        self.streams = inspect.isgeneratorfunction(self._run) or inspect.isasyncgenfunction(
            self._run
        )
        """Whether run() yields its answer piece by piece."""
        concurrent = inspect.iscoroutinefunction(self._run) or inspect.isasyncgenfunction(self._run)
        self.callers = ASYNC_CALLERS if concurrent else 1
        """How many runs may be under way: one, unless run() is `async def`."""

    @property
    def has_run(self) -> bool:
        """Say whether predictions go through the script."""
        return self._run is not None

    def run(self, inputs: Arrays) -> Arrays:
        """Return what the script makes of the inputs; raise ModelError if it fails."""
        if self.streams:
            return self._join(list(self.stream(inputs)))
        assert self._run is not None
        return self._arrays(self._call("run", self._run, inputs))

    def stream(self, inputs: Arrays) -> Iterator[Arrays]:
        """Yield the pieces of the script's answer as they come; raise ModelError if it fails.

        Closed before its end, it closes the script's generator.
        """
        assert self._run is not None
        if not self.streams:
            yield self.run(inputs)
            return
        given = self._call("run", self._run, inputs)
        asynchronous = inspect.isasyncgen(given)
        step, close = (_step_async, _close_async) if asynchronous else (_step, _close)
        try:
            while (piece := self._call("run", step, given)) is not None:
                yield self._arrays(piece)
        finally:
            self._call("run", close, given)

    def function(self, name: str, *, required: bool = True) -> Callable[..., Any] | None:
        """Return a function of the script; raise ModelError if it has to be there and is not."""
        found = getattr(self._module, name, None)
        if callable(found):
            return found  # type: ignore[no-any-return] # a foreign script's, whatever it is
        if required:
            names = [n for n, value in vars(self._module).items() if inspect.isfunction(value)]
            raise self._error(name, f"is not defined: the script has {', '.join(names) or 'none'}")
        return None

    def _load(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location(MODULE_NAME, self._path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        folder = str(self._path.parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        sys.modules[MODULE_NAME] = module
        self._call("import", spec.loader.exec_module, module)
        return module

    def _call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            result = function(*arguments)
            return self._wait(result) if inspect.iscoroutine(result) else result
        except ModelError:
            raise
        except futures.CancelledError as error:
            raise self._error(name, "was cancelled") from error
        except (Exception, SystemExit) as error:  # a foreign script may raise anything
            log.exception("entry script failed", extra={"function": name})
            raise self._error(name, f"raised {type(error).__name__}: {error}") from error

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return what a coroutine returns; all of a script's run in one loop, in its own thread."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="entry", daemon=True).start()
        tracked = self._tracked(threading.get_ident(), coroutine)
        return asyncio.run_coroutine_threadsafe(tracked, self._loop).result()

    async def _tracked(self, thread: int, coroutine: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._underway[thread] = task
        try:
            return await coroutine
        finally:
            del self._underway[thread]

    def cancel(self, thread: int) -> None:
        """Cancel what a thread of this identity waits for, if that is of an `async def` run()."""
        task = self._underway.get(thread)
        if task is not None:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(task.cancel)

    def _arrays(self, outputs: Any) -> Arrays:
        if not isinstance(outputs, dict) or not all(isinstance(name, str) for name in outputs):
            raise self._error("run", f"gave {type(outputs).__name__}: return a dict by output name")
        arrays = {name: np.asarray(value) for name, value in outputs.items()}
        for name, array in arrays.items():
            tensors.datatype_of(name, array)
        return arrays

    def _join(self, pieces: list[Arrays]) -> Arrays:
        if not pieces:
            raise self._error("run", "yielded nothing: yield at least one dict by output name")
        try:
            return {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}
        except (KeyError, ValueError) as error:
            text = f"yielded pieces that do not join ({error}): ask for a stream"
            raise self._error("run", text) from error

    def _error(self, name: str, text: str) -> ModelError:
        return ModelError(" ".join(f"{self._path.name}: {name} {text}".split()))


def _step(given: Iterator[Any]) -> Any:
    return next(given, None)


async def _step_async(given: AsyncIterator[Any]) -> Any:
    async for piece in given:
        return piece
    return None


def _close(given: Generator[Any, None, None]) -> None:
    given.close()


async def _close_async(given: AsyncGenerator[Any, None]) -> None:
    await given.aclose()
