"""`entry:FUNCTION`: a generator function of the bundle's entry script gives the inputs.

    def source(position=None):       # the parameter is optional
        yield {"x": array}                            counted: its item and position are its number
        yield {"x": array}, "reading-7"               with a name of its own
        yield {"x": array}, "reading-7", "offset 91"  and with a position of its own

A function with a parameter `position` gets that of the last item recorded (None: the beginning) and
is expected to go on behind it; one without starts afresh each time, as a sensor does. A generator
that ends is not started again.
"""

import inspect
import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

from edge_agent.worker.sources import Item, SourceError, Surroundings
from runtime.errors import ModelError

log = logging.getLogger(__name__)


class EntrySource:
    """A generator of the entry script."""

    def __init__(self, uri: str, function: Callable[..., Any], around: Surroundings) -> None:
        self._uri, self._function, self._around = uri, function, around
        self._resumes = "position" in inspect.signature(function).parameters

    def items(self, position: str | None) -> Generator[Item, None, None]:
        """Yield what the script yields; raise SourceError with what the script raises."""
        count = int(position) if position is not None and position.isdecimal() else 0
        given = self._call(self._start, position)
        try:
            while not self._around.stopping.is_set():
                value = self._call(next, given, None)
                if value is None:
                    log.info("source ended", extra={"source": self._uri, "items": count})
                    return
                count += 1
                yield self._item(value, str(count))
        finally:
            if inspect.isgenerator(given):
                given.close()  # so that it lets go of its sensor before another begins

    def _start(self, position: str | None) -> Iterator[Any]:
        made = self._function(position=position) if self._resumes else self._function()
        return iter(made)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # a foreign script may raise anything
            log.exception("source failed", extra={"source": self._uri})
            raise SourceError(f"{self._uri}: {type(error).__name__}: {error}") from error

    def _item(self, value: Any, count: str) -> Item:
        match value:
            case (Mapping() as inputs, item, position):
                return Item(name=str(item), inputs=inputs, position=str(position))
            case (Mapping() as inputs, item):
                return Item(name=str(item), inputs=inputs, position=count)
            case Mapping():
                return Item(name=count, inputs=value, position=count)
        raise SourceError(
            f"{self._uri}: yielded {type(value).__name__}: yield a dict of arrays by input name"
        )


def open_source(uri: str, around: Surroundings) -> EntrySource:
    """Return the source; raise SourceError if the script has no such function."""
    name = uri.partition(":")[2] or "source"
    if around.entry is None:
        raise SourceError(f"{uri}: the bundle has no entry script: name one in bundle.yaml")
    try:
        function = around.entry.function(name)
    except ModelError as error:
        raise SourceError(f"{uri}: {error}") from error
    assert function is not None
    return EntrySource(uri, function, around)
