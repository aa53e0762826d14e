"""The limit: onnxruntime in process, one thread, one caller.

Arguments: FILE, SECONDS, the shape of x as JSON. Prints runs per second and their
median in milliseconds.
"""

import json
import statistics
import sys
import time

import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
x = np.random.default_rng(7).random(json.loads(sys.argv[3]), dtype=np.float32)
for _ in range(5):
    session.run(None, {"x": x})
taken: list[float] = []
started = last = time.perf_counter()
while last - started < float(sys.argv[2]):
    session.run(None, {"x": x})
    now = time.perf_counter()
    taken.append(now - last)
    last = now
print(json.dumps({  # noqa: T201 - its output is the point
    "req_s": len(taken) / (last - started), "p50_ms": statistics.median(taken) * 1000,
}))  # fmt: skip
