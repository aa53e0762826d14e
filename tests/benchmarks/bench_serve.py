"""The inference server against floors, the limit and other servers, side by side in one run.

Each server runs alone, three models loaded, in an order that each round shuffles anew. An answer in
each form is compared with onnxruntime's in process before anything is timed, and again after; wrong
answers and failed requests end the run. Then wrk (HTTP) and h2load (gRPC) ask for two seconds a
case. Floors: an empty ASGI app on uvicorn, bare grpc.aio, and onnxruntime in process with the same
one thread. Prints figures, then each goal with its verdict. Our server is measured as it
comes: nothing is turned off.

    python tests/benchmarks/bench_serve.py [--rounds 3] [--seconds 2] [--quick] [--only tiny,image]
        [--servers ours,asgi] [--program FILE] [--json FILE]

`make bench-serve` installs the peers first. Needs wrk and h2load (Debian: wrk, nghttp2-client).
"""

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import onnxruntime

from tests.benchmarks import serve_extras, serve_goals, serve_load, serve_models, serve_peers
from tests.benchmarks.serve_goals import CONNECTIONS, ONNX, OURS, PROCESS, Verdict
from tests.benchmarks.serve_load import Stream
from tests.benchmarks.serve_models import IMAGE, TINY, Question
from tests.benchmarks.serve_peers import Kind

SECTIONS = ("tiny", "image", "mixed", "process", "batching", "reload", "gateway")
IMAGE_CASES = (("json", 1), ("json", 2), ("binary", 1), ("binary", 2), ("grpc", 2))
MIXED_TINY, MIXED_IMAGE = 8, 2
QUICK_CONNECTIONS = (1, 8)
IDLE_S = 5.0
SEED = 2026

Figures = dict[str, dict[str, float]]
"""Case to figures of one server in one round."""


class Bench:
    """One run of the benchmark: what is asked, for how long."""

    def __init__(self, chosen: argparse.Namespace, models: Mapping[str, Path]) -> None:
        """Take the command line's choice and the model files by name."""
        self.sections: set[str] = set(chosen.only)
        self.seconds: float = chosen.seconds
        self.connections = QUICK_CONNECTIONS if chosen.quick else CONNECTIONS
        self.program: Path = chosen.program
        self.reloads = serve_extras.QUICK_RELOADS if chosen.quick else serve_extras.RELOADS
        self.models = models
        self.questions: dict[str, Question] = {
            name: serve_models.question(name, path) for name, path in models.items()
        }

    def measure(self, kind: Kind) -> Figures:
        """Return all figures of a server."""
        figures: Figures = defaultdict(dict)
        with serve_peers.running(kind, self.models, self.program) as server:
            if kind.answers:
                serve_load.check(server, self.questions[TINY], "json")
                figures[PROCESS]["ready_s"] = time.perf_counter() - server.started
                figures[PROCESS]["ready_cpu_s"] = server.cpu_s()
                for question in self.questions.values():
                    for form in sorted(kind.forms):
                        serve_load.check(server, question, form)
                figures[PROCESS]["pss_mb"] = server.pss_mb()
            for streams in self.cases(kind):
                loads = serve_load.load(server, list(streams.values()), self.seconds)
                for name, load in zip(streams, loads, strict=True):
                    figures[name].update(load.figures())
            if "process" in self.sections:
                figures[PROCESS]["loaded_pss_mb"] = server.pss_mb()
                figures[PROCESS]["idle_cores"] = serve_load.idle_cpu(server, IDLE_S)
            for question in self.questions.values() if kind.answers else ():
                for form in sorted(kind.forms):
                    serve_load.check(server, question, form)
        return dict(figures)

    def warm(self, kinds: Sequence[Kind]) -> None:
        """Start ours once, for its bytecode: a clone has none, what pip installed has."""
        for kind in kinds:
            if kind.name == OURS:
                with serve_peers.running(kind, self.models, self.program):
                    pass

    def cases(self, kind: Kind) -> list[dict[str, Stream]]:
        """Return what a server is asked: each case's streams, by what their figures are called."""
        tiny, image = self.questions[TINY], self.questions[IMAGE]
        found: list[dict[str, Stream]] = []
        alone = []
        if "tiny" in self.sections:
            alone += [(tiny, form, n) for form in sorted(kind.forms) for n in self.connections]
        if "image" in self.sections and kind.answers:
            alone += [(image, form, n) for form, n in IMAGE_CASES if form in kind.forms]
        for question, form, n in alone:
            name = serve_goals.case(question.model, form, n)
            found.append({name: Stream(question, form, n)})
        if "mixed" in self.sections and kind.answers:
            for form in sorted(kind.forms - {"grpc"}):
                streams = {
                    serve_goals.mixed(form, TINY): Stream(tiny, "json", MIXED_TINY),
                    serve_goals.mixed(form, IMAGE): Stream(image, form, MIXED_IMAGE),
                }
                found.append(streams)
        return found

    def limit(self) -> Figures:
        """Return what onnxruntime does in process, in a Python of its own."""
        figures = {}
        for name in (TINY, IMAGE):
            script = str(serve_peers.SCRIPTS / "floor_onnx.py")
            shape = json.dumps(serve_models.SHAPES[name])
            argv = [sys.executable, script, str(self.models[name]), str(self.seconds), shape]
            done = subprocess.run(argv, capture_output=True, check=True)
            figures[name] = json.loads(done.stdout)
        return figures

    def round(self, kinds: Sequence[Kind], rng: random.Random) -> dict[str, Figures]:
        """Measure each server once, what is compared most closely side by side."""
        near = [kind for kind in kinds if kind.peer is None]
        others = [kind for kind in kinds if kind.peer is not None]
        rng.shuffle(near)
        rng.shuffle(others)
        place = rng.randint(0, len(others))
        found: dict[str, Figures] = {}
        for kind in [*others[:place], *near, *others[place:]]:
            say(f"  {kind.name}")
            found[kind.name] = self.measure(kind)
            if kind.name == OURS and self.sections & {"tiny", "image"}:
                found[ONNX] = self.limit()
        if OURS in found:
            extras = serve_extras.Extras(self.models, self.seconds, self.program, self.reloads)
            found[OURS].update(extras.measure(self.sections))
        return found


def main() -> None:
    """Measure and print."""
    chosen = options()
    for program, package in (("wrk", "wrk"), ("h2load", "nghttp2-client")):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not here: as root, run: apt-get install {package}")
    kinds = [kind for kind in serve_peers.kinds() if kind.name in chosen.servers]
    if missing := [name for name in serve_peers.left_out() if name in chosen.servers]:
        say(f"left out, not installed: {', '.join(missing)} (scripts/install-bench-peers.sh)")
    rng = random.Random(SEED)
    rounds = []
    with tempfile.TemporaryDirectory(prefix="ph-models-") as place:
        bench = Bench(chosen, serve_models.write(Path(place)))
        bench.warm(kinds)
        for number in range(chosen.rounds):
            say(f"round {number + 1} of {chosen.rounds}")
            rounds.append(bench.round(kinds, rng))
            bench.sections.discard("reload")  # minutes long, and once is enough
    print_figures(rounds)
    verdicts = [serve_goals.verdict(goal, rounds) for goal in serve_goals.goals()]
    judged = [verdict for verdict in verdicts if verdict is not None]
    print_verdicts(judged, len(verdicts) - len(judged))
    result = {
        "bench": "serve", "machine": machine(), "rounds": rounds,
        "ok": all(verdict.ok for verdict in judged),
        "goals": [row(verdict) for verdict in judged],
    }  # fmt: skip
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [kind.name for kind in serve_peers.ALL]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of each case; whole seconds")
    parser.add_argument(
        "--quick", action="store_true", help="one round of 1 s, 1 and 8 connections"
    )
    parser.add_argument("--only", type=among(SECTIONS), default=SECTIONS, metavar="SECTION,…")
    parser.add_argument("--servers", type=among(names), default=names, metavar="NAME,…")
    parser.add_argument(
        "--program", type=Path, default=serve_peers.PROGRAM, metavar="FILE",
        help="the packhorse-runtime to measure",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rounds, chosen.seconds = 1, 1
    return chosen


def among(names: Sequence[str]) -> Any:
    """Return what reads a list of some of these names, divided by commas."""

    def read(text: str) -> list[str]:
        found = text.split(",")
        if strange := [name for name in found if name not in names]:
            raise argparse.ArgumentTypeError(f"{', '.join(strange)}: use {', '.join(names)}")
        return found

    return read


def print_figures(rounds: Sequence[Mapping[str, Figures]]) -> None:
    """Print each figure of each server, the median of the rounds."""
    values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for each in rounds:
        for server, cases in each.items():
            for case, figures in cases.items():
                for figure, value in figures.items():
                    values[case, server, figure].append(value)
    lines: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (case, server, figure), found in values.items():
        lines[case, server].append(f"{figure} {serve_load.median(found):,.4g}")
    say("\n| case | server | medians |\n|---|---|---|")
    for (case, server), texts in sorted(lines.items()):
        say(f"| {case} | {server} | {', '.join(texts)} |")


def print_verdicts(verdicts: Sequence[Verdict], unmeasured: int) -> None:
    """Print each goal with what came of it."""
    say("\n| case | figure | ours | against | theirs | measured | goal | |")
    say("|---|---|---|---|---|---|---|---|")
    for verdict in verdicts:
        goal, other = verdict.goal, verdict.other
        sign = "≤" if goal.at_most else "≥"
        theirs = "" if other is None else f"{other:,.4g}"
        say(
            f"| {goal.case} | {goal.figure} | {verdict.ours:,.4g} | {goal.against} | {theirs} |"
            f" {verdict.value:,.3g} | {sign} {goal.bound:g} | {'PASS' if verdict.ok else 'MISS'} |"
        )
    missed = sum(not verdict.ok for verdict in verdicts)
    say(f"\n{len(verdicts) - missed} met, {missed} missed, {unmeasured} not measured")


def row(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON has it."""
    goal = verdict.goal
    return {
        "case": goal.case, "figure": goal.figure, "against": goal.others, "ours": verdict.ours,
        "theirs": verdict.other, "value": verdict.value, "bound": goal.bound,
        "at_most": goal.at_most, "ok": verdict.ok,
    }  # fmt: skip


def machine() -> dict[str, Any]:
    """Return where this was measured."""
    return {
        "cores": os.cpu_count(), "python": platform.python_version(),
        "kernel": platform.release(), "onnxruntime": onnxruntime.__version__,
        "load_average": os.getloadavg(),
    }  # fmt: skip


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201 - its output is the point


if __name__ == "__main__":
    main()
