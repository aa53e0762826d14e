"""`python -m runtime.serving.scripts --control-fd N`: one bundle's script, in its own process.

Started by a server (runtime.serving.scripts.process), which it never outlives. What the script
prints goes to stderr, as the log does.
"""

import argparse
import faulthandler
import logging
import os
import resource
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime import logs
from runtime.bundle import index as bundle_index
from runtime.bundle.index import Index
from runtime.errors import InvalidError, ModelError, PackhorseError
from runtime.inference import admission
from runtime.inference.model import Model
from runtime.inference.tensors import Arrays
from runtime.serving.replies import PIECES_AHEAD
from runtime.serving.scripts import frames
from runtime.serving.scripts.frames import Answer, Call, Cancel, End, Failed, More, Refused, Started

log = logging.getLogger("runtime.serving.scripts")

MIB = 1 << 20
SWITCH = "start the server with --allow {need}"


class Child:
    """Answers calls, as many at once as the script takes."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._sending = threading.Lock()
        self._rooms: dict[int, threading.Semaphore] = {}
        """Of each stream under way: how many pieces may still be sent."""
        self._cancelled: set[int] = set()
        self._threads: dict[int, int] = {}
        """In which thread a call is under way."""

    def run(self) -> int:
        """Serve until the server is gone; return the exit code: 0, or 1 if nothing was loaded."""
        first = frames.receive(self._control)
        if first is None or not isinstance(first[0], frames.Start):
            return 0
        try:
            model = _load(first[0])
        except (PackhorseError, OSError, MemoryError) as error:
            text = " ".join(str(error).split()) or type(error).__name__
            self._say(Failed(text))
            return 1
        entry = model.entry
        has_run = entry is not None and entry.has_run
        self._say(Started(has_run, model.streams, model.callers, model.output_names))
        with ThreadPoolExecutor(model.callers, "call") as pool:
            while (frame := frames.receive(self._control)) is not None:
                match frame:
                    case (Call() as call, arrays):
                        if call.stream:
                            self._rooms[call.call] = threading.Semaphore(PIECES_AHEAD)
                        pool.submit(self._answer, model, call, arrays)
                    case (More(call=number), _) if number in self._rooms:
                        self._rooms[number].release()
                    case (Cancel(call=number), _):
                        self._cancel(model, number)
            # The server is gone, and what still runs is for nobody.
            logging.shutdown()
            os._exit(0)

    def _cancel(self, model: Model, number: int) -> None:
        """Let a call end soon, if it is under way."""
        room, thread = self._rooms.get(number), self._threads.get(number)
        if room is not None:
            self._cancelled.add(number)
            room.release()
        if thread is not None and model.entry is not None:
            model.entry.cancel(thread)

    def _answer(self, model: Model, call: Call, inputs: Arrays) -> None:
        number = call.call
        self._threads[number] = threading.get_ident()
        try:
            if call.stream:
                self._stream(model, call, inputs)
            else:
                self._say(Answer(number), model.predict(inputs, call.wanted))
        except InvalidError as error:
            self._say(Refused(number, error.fix, error.field, str(error.value)))
        except (ModelError, MemoryError) as error:
            self._say(Refused(number, str(error) or "out of memory"))
        except OSError:
            log.info("the server is gone")
        except (TypeError, ValueError, OverflowError) as error:
            # Nothing of the frame was sent: its header could not be made.
            self._say(Refused(number, f"run gave what no answer can carry: {error}"))
        finally:
            self._rooms.pop(number, None)
            self._threads.pop(number, None)
            self._cancelled.discard(number)

    def _stream(self, model: Model, call: Call, inputs: Arrays) -> None:
        pieces = model.stream(inputs, call.wanted)
        room = self._rooms[call.call]
        for piece in pieces:
            room.acquire()
            if call.call in self._cancelled:
                break
            self._say(Answer(call.call), piece)
        pieces.close()  # type: ignore[attr-defined] # Model.stream is a generator
        self._say(End(call.call))

    def _say(self, message: frames.Message, arrays: Arrays | None = None) -> None:
        with self._sending:
            frames.send(self._control, message, arrays)


def _load(start: frames.Start) -> Model:
    directory = Path(start.directory)
    index = bundle_index.decode(start.index)
    admission.bind(index, start.allow, SWITCH)
    _limit_memory(index)
    return Model.load(directory, index)


def _limit_memory(index: Index) -> None:
    """Let an allocation fail here before the machine feels it."""
    if index.resources.memory_mb is not None:
        most = (2 * index.resources.memory_mb + 512) * MIB
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def main() -> int:
    """Serve the server at the other end of the control socket; return the exit code."""
    parser = argparse.ArgumentParser(prog="runtime.serving.scripts")
    parser.add_argument("--control-fd", type=int, required=True)
    control = socket.socket(fileno=parser.parse_args().control_fd)
    os.set_inheritable(control.fileno(), False)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    faulthandler.enable()
    logs.set_up()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server alone says when to stop
    sys.dont_write_bytecode = True
    return Child(control).run()


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)
