"""What a record costs on the wire, and how many a device moves from its spools to the registry.

Bytes: a batch of 500 records against the same records as one JSON message each. `digits` is what a
classifier of ten digits records: ten float32 probabilities and a label. `hard` is what compresses
worst: UUIDs as request ids, sixteen float64 of noise, a clock and a latency that nobody rounded.
Goal for digits: <= 0.1. Speed: from frames in a spool to batches in the outbox (durable), and on
through a publish that acknowledges at once. Medians over the rounds. Prints one JSON object.

    python tests/benchmarks/bench_telemetry.py [--rounds 5] [--records 50000]
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec

from edge_agent.telemetry.batcher import Batcher
from edge_agent.telemetry.intake import SpoolIntake
from edge_agent.telemetry.outbox import Outbox
from edge_agent.telemetry.path import TelemetryPath
from edge_agent.telemetry.spool import SpoolWriter
from runtime import batches, topics
from runtime.batches import Record
from runtime.messages import Ack
from tests.support import records

DEVICE = topics.device_id("dev-1")
BATCH = 500
GOAL = 0.1


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--records", type=int, default=50_000)
    chosen = options.parse_args()
    rng = random.Random(1)
    digits = [records.digits(number, rng) for number in range(BATCH)]
    costs = {"digits": cost(digits), "hard": cost([hard(rng) for _ in range(BATCH)])}
    frames = [records.frame(record) for record in digits] * (chosen.records // BATCH)
    moved, sent = [], []
    for _ in range(chosen.rounds):
        with tempfile.TemporaryDirectory() as scratch:
            fill(Path(scratch), frames)
            moved.append(len(frames) / move(Path(scratch)))
        with tempfile.TemporaryDirectory() as scratch:
            fill(Path(scratch), frames)
            sent.append(len(frames) / send(Path(scratch), len(frames)))
    print(  # noqa: T201 - its output is the point
        json.dumps(
            {
                "bench": "telemetry",
                "batch_records": BATCH,
                "bytes_per_record": costs,
                "encode_us_per_record": encode_us(digits),
                "records": len(frames),
                "rounds": chosen.rounds,
                "spool_to_outbox_records_per_s": round(statistics.median(moved)),
                "spool_to_acknowledged_records_per_s": round(statistics.median(sent)),
                "goal": GOAL,
                "ok": costs["digits"]["ratio"] <= GOAL,
            }
        )
    )


def hard(rng: random.Random) -> Record:
    """Return a record with hardly anything to save."""
    return Record(
        at=1_800_000_000.0 + rng.random() * 100,
        module="vibration",
        bundle="cd" * 32,
        model="vibration",
        version=1,
        latency_ms=rng.expovariate(1.0),
        outputs={"embedding": [rng.gauss(0.0, 1.0) for _ in range(16)]},
        request=str(uuid.UUID(int=rng.getrandbits(128))),
    )


def cost(sample: list[Record]) -> dict[str, float]:
    """Return the bytes of a record in a batch and as a JSON message."""
    payload = batches.encode_batch(
        device=DEVICE, epoch="0123456789abcdef", sequence=1, sent_at=1.8e9, records=sample
    )
    ours = len(payload) / len(sample)
    plain = sum(len(msgspec.json.encode(record)) for record in sample) / len(sample)
    return {"ours": round(ours, 1), "json": round(plain, 1), "ratio": round(ours / plain, 4)}


def encode_us(sample: list[Record]) -> float:
    """Return the microseconds it takes to pack one record."""
    times = []
    for _ in range(15):
        began = time.perf_counter()
        batches.encode_records(sample)
        times.append(time.perf_counter() - began)
    return round(statistics.median(times) / len(sample) * 1e6, 2)


def fill(directory: Path, frames: list[bytes]) -> None:
    """Leave frames in a spool, as a worker that died would."""
    writer = SpoolWriter(directory / "spool" / "digits")
    for frame in frames:
        writer.append(frame)
    writer.close()


def move(directory: Path) -> float:
    """Return the seconds from the spool to the outbox, one thread, nothing else going on."""
    outbox = Outbox(directory / "outbox.db")
    intake = SpoolIntake(outbox, directory / "spool", Batcher(), time.time)
    began = time.perf_counter()
    intake.move("digits", 0.0)
    intake.flush()
    took = time.perf_counter() - began
    outbox.close()
    return took


def send(directory: Path, count: int) -> float:
    """Return the seconds from the spool to the last acknowledgement."""
    outbox, arrived, done = Outbox(directory / "outbox.db"), 0, threading.Event()

    def publish(payload: bytes) -> None:
        nonlocal arrived
        header, body = batches.unwrap(payload)
        arrived += len(batches.decode_records(body))
        path.on_ack(Ack(header.epoch, stored=(header.sequence,)))
        if arrived == count:
            done.set()

    path = TelemetryPath(outbox, directory / "spool", publish, device=DEVICE)
    path.on_connected()
    began = time.perf_counter()
    path.start()
    assert done.wait(120.0)
    took = time.perf_counter() - began
    path.stop()
    outbox.close()
    return took


if __name__ == "__main__":
    main()
