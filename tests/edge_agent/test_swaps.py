"""Two versions that take turns under load: no request fails, and nothing grows.

`ROUNDS=1000 pytest tests/edge_agent/test_swaps.py -s` prints the figures of docs/benchmarks.md.
"""

import os
import statistics
import threading
from collections.abc import Iterator

import psutil
import pytest

from edge_agent.errors import NotRunningError
from runtime.errors import LinkError
from tests.support import agents
from tests.support.agents import Device

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("ROUNDS", "10"))
"""Of swaps that start a worker process each, which costs most of a second of work."""
WARM_ROUNDS = 3 * ROUNDS
"""Of swaps back to a version that is still loaded."""
ROW = [1.0, 2.0, 3.0, 4.0]
DOUBLE, TRIPLE = (2.0, 4.0, 6.0, 8.0), (3.0, 6.0, 9.0, 12.0)
MIB = 1 << 20
SAMPLES = 10
MOST_GROWTH_MB = 8.0
PAUSE_S = 0.005


@pytest.fixture
def device() -> Iterator[Device]:
    with agents.device() as made:
        yield made


class Client:
    """Asks and asks, in a thread of its own."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.answers = 0
        self.wrong: list[object] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                answer: object = tuple(self._device.infer(ROW))
            except (LinkError, NotRunningError, OSError) as error:
                answer = error
            self.answers += 1
            if answer not in (DOUBLE, TRIPLE):
                self.wrong.append(answer)
            self._stop.wait(PAUSE_S)


@pytest.mark.timeout(120 + 10 * ROUNDS)
def test_swaps_under_load_fail_no_request_and_grow_no_memory(device: Device) -> None:
    device.start()
    bundles = [device.bundle("double", factor=2.0), device.bundle("triple", factor=3.0)]
    device.want(bundles[0], soak_s=0.0)
    device.until_running(bundles[0])
    assert device.process is not None
    supervisor = psutil.Process(device.process.pid)
    client, resident = Client(device), []
    try:
        for number in range(1, ROUNDS + WARM_ROUNDS + 1):
            wanted = bundles[number % 2]
            device.want(wanted, soak_s=0.0 if number <= ROUNDS else 600.0)
            device.until_running(wanted)
            assert tuple(device.infer(ROW)) == (DOUBLE, TRIPLE)[number % 2]
            resident.append(supervisor.memory_info().rss / MIB)
    finally:
        client.stop()

    before = statistics.median(resident[ROUNDS // 5 :][:SAMPLES])
    after = statistics.median(resident[-SAMPLES:])
    print(  # noqa: T201 - the figures of docs/benchmarks.md, for a run by hand
        f"{ROUNDS} cold and {WARM_ROUNDS} warm swaps: {client.answers} requests,"
        f" {len(client.wrong)} failed; supervisor {before:.1f} MiB before, {after:.1f} after"
    )
    assert client.wrong == []
    assert client.answers > ROUNDS
    assert after - before < MOST_GROWTH_MB
