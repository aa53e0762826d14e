"""What the gateway adds to a request: an empty ASGI app asked directly, and through a gateway.

The app answers a small inference request with a fixed small answer, so all that differs is the
gateway: a key, weights, tries, counts, all on. wrk asks; rounds alternate, medians are told. CPU is
the gateway's own, so it holds on a machine that does other things too. Goals: at one connection the
median takes at most 0.35 ms more, and a core carries at least 3,000 requests a second. Prints JSON.

    python tests/benchmarks/bench_gateway.py [--rounds 5] [--seconds 2]
"""

import argparse
import hashlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import psutil

from runtime.gateway.config import Key
from tests.support import gateways, parts
from tests.support.brokers import HOST
from tests.support.commands import eventually
from tests.support.gateways import GatewayProcess, get

GOAL_ADDED_MS = 0.35
GOAL_PER_CORE = 3000
CONNECTIONS = (1, 8, 64)
KEY = "letmein"
APP = """
import sys, uvicorn
OUTPUT = b'{"name":"y","datatype":"FP32","shape":[1,4],"data":[0.1,0.2,0.3,0.4]}'
BODY = b'{"model_name":"tiny","outputs":[' + OUTPUT + b"]}"
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]
async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", lifespan="off")
"""
INPUT = f'{{"name":"x","datatype":"FP32","shape":[1,16],"data":[{"0.5," * 15}0.5]}}'
LUA = f"""
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {KEY}"
wrk.body = '{{"inputs":[{INPUT}]}}'
"""
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def app(place: Path) -> gateways.Backend:
    """Return the app as a replica."""
    made = gateways.Backend(place, "app")
    made._argv = [sys.executable, "-c", APP, str(made.port)]
    return made


def ask(port: int, connections: int, seconds: int, script: Path) -> dict[str, float]:
    """Run wrk once; return its median (ms) and requests. Fails if an answer was no 200."""
    url = f"http://{HOST}:{port}/v2/models/tiny/infer"
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "-s", str(script), url]
    told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "Non-2xx" not in told, told
    assert "Socket errors" not in told, told
    median = re.search(r"50%\s+([0-9.]+)(us|ms|s)", told)
    count = re.search(r"(\d+) requests in", told)
    assert median is not None, told
    assert count is not None, told
    return {"p50_ms": float(median[1]) * UNITS[median[2]], "requests": float(count[1])}


def measure(replica: gateways.Backend, gateway: GatewayProcess, script: Path, told: Any) -> Any:
    """Return the figures for each number of connections."""
    process = psutil.Process(gateway.pid)
    figures = {}
    for connections in CONNECTIONS:
        direct, through, cpu_us = [], [], []
        for _ in range(told.rounds):
            direct.append(ask(replica.port, connections, told.seconds, script))
            before = process.cpu_times()
            through.append(ask(gateway.port, connections, told.seconds, script))
            after = process.cpu_times()
            used_s = after.user - before.user + after.system - before.system
            cpu_us.append(used_s / through[-1]["requests"] * 1e6)
        medians = [statistics.median(run["p50_ms"] for run in runs) for runs in (direct, through)]
        figures[connections] = {
            "direct_p50_ms": round(medians[0], 3),
            "gateway_p50_ms": round(medians[1], 3),
            "added_ms": round(medians[1] - medians[0], 3),
            "requests_per_s": round(
                statistics.median(r["requests"] for r in through) / told.seconds
            ),
            "cpu_us": round(statistics.median(cpu_us)),
            "requests_per_core_s": round(1e6 / statistics.median(cpu_us)),
        }
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    told = parser.parse_args()
    parts.require("wrk")
    place = Path(tempfile.mkdtemp(prefix="ph-"))
    script = place / "ask.lua"
    script.write_text(LUA)
    replica, gateway = app(place), GatewayProcess(place)
    with gateways.running(replica, gateway):
        replica.begin()
        gateway.configure(
            gateways.revision("r1", 90, [replica]),
            gateways.revision("r2", 10, [replica]),
            anonymous=False,
            keys=(Key("bench", hashlib.sha256(KEY.encode()).hexdigest()),),
        )
        gateway.start()
        eventually(lambda: get(gateway.port, "/v2/health/ready")[0] == 200, "the app answers")
        figures = measure(replica, gateway, script, told)
    goals = {
        "added_ms": figures[1]["added_ms"] <= GOAL_ADDED_MS,
        "requests_per_core_s": figures[8]["requests_per_core_s"] >= GOAL_PER_CORE,
    }
    print(json.dumps({"connections": figures, "goals_met": goals}, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
