"""The demo, step by step: what a person would do with the command line.

examples/01_first_model has the same by hand.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from cloud import shapes
from cloud.client import Client
from cloud.demo import collect
from cloud.demo.asking import Asker
from cloud.demo.errors import DemoError
from cloud.demo.handout import DIGITS, MOTION, Handout
from cloud.demo.score import score
from cloud.demo.stage import Stage
from cloud.demo.steps import Steps
from cloud.demo.table import Outcome, Traffic, Update
from runtime.bundle import build
from runtime.wording import counted

STEP_S = 90.0
"""No step may take longer."""
QUIET_S = 30.0
"""So long without a new record means that no more will come."""
SOAK_S = 5.0
POLL_S = 0.1
UPDATED = "2"
"""The version of digits that the update brings, as devices name it."""
DURING_UPDATE = 4
"""Images for each device at a time, while the update goes on."""


@dataclass
class Demo:
    """One performance."""

    stage: Stage
    steps: Steps
    _begun: float = field(default_factory=time.monotonic)
    _deployments: list[str] = field(default_factory=list)

    @property
    def console(self) -> Console:
        """Where progress is told: stderr."""
        return self.steps.console

    def play(self, *, keep: bool) -> Outcome:
        """Do every step; return what was found out."""
        materials = self.stage.directory / "training"
        self.stage.train(materials)
        with self.steps.step("start the registry and its broker"):
            self.stage.start_registry()
        with contextlib.closing(self.stage.client()) as registry:
            with self.steps.step(f"enrol {counted(len(self.stage.devices), 'device')}"):
                self.stage.enrol(registry)
            with self.steps.step("train real models on real data"):
                self.stage.wait_trained(STEP_S)
                handout = Handout(materials, self.stage.devices)
                for device in self.stage.devices:
                    handout.write_sensor(device, self.stage.sensor(device))
            return self._with_models(registry, handout, materials, keep=keep)

    def _with_models(
        self, registry: Client, handout: Handout, materials: Path, *, keep: bool
    ) -> Outcome:
        inboxes = {device: self.stage.inbox(device) for device in self.stage.devices}
        with self.steps.step("register version 1 of digits, and wrist-motion"):
            for name in ("digits-1", "wrist-motion"):
                push(registry, materials / name)
        with self.steps.step("deploy both; devices fetch, check and start them"):
            self.stage.start_agents()
            wanted = [self._deploy(registry, DIGITS), self._deploy(registry, MOTION)]
            for deployment in wanted:
                self._wait_running(registry, deployment)
        first = collect.transfers(registry, self.stage.devices)
        asker = self._asker(handout)
        asker.start()
        collected = collect.Collected()
        try:
            with self.steps.step("register the better version 2"):
                push(registry, materials / "digits-2")
            with self.steps.step("devices classify the first half of the images"):
                handout.give_images(inboxes, handout.images_left // 2)
                self._wait_records(registry, collected, handout)
                self._wait_delta()
            with self.steps.step("deploy it while inference goes on"):
                self._update(registry, handout, inboxes)
                costs = collect.transfers(registry, self.stage.devices)
            with self.steps.step("devices classify the rest"):
                handout.give_images(inboxes, handout.images_left)
                self._wait_records(registry, collected, handout)
        finally:
            asker.stop()
        with self.steps.step("every record arrives in the registry"):
            self._wait_records(registry, collected, handout, asker)
        traffic = self._traffic(collected, first, costs)
        return self._outcome(collected, handout, asker, traffic, keep=keep)

    def _deploy(self, registry: Client, model: str) -> str:
        wish = shapes.NewDeployment(model=model, selector="site=demo", soak_s=SOAK_S)
        made = registry.deploy(wish).id
        self._deployments.append(made)
        return made

    def _update(self, registry: Client, handout: Handout, inboxes: dict[str, Path]) -> None:
        """Deploy the newest version; meanwhile images keep coming."""
        deployment = self._deploy(registry, DIGITS)
        keep_back = handout.images_left // 2

        def feed() -> None:
            if handout.images_left > keep_back:
                handout.give_images(inboxes, DURING_UPDATE * len(self.stage.devices))

        self._wait_running(registry, deployment, meanwhile=feed)

    def _wait_delta(self) -> None:
        """Let the registry make the delta, as it has time to before a person deploys a version."""
        deadline, pause = time.monotonic() + STEP_S, threading.Event()
        while not collect.delta_is_made(self._database):
            self.steps.tell("the registry makes a delta to version 2")
            self.stage.require_alive()
            if time.monotonic() > deadline:
                text = f"the registry has made no delta to version 2 in {STEP_S:g} s"
                raise DemoError(text, self.stage.log("registry"))
            pause.wait(POLL_S)

    @property
    def _database(self) -> Path:
        return self.stage.data("registry") / "registry.db"

    def _wait_running(
        self, registry: Client, deployment: str, *, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        deadline, pause = time.monotonic() + STEP_S, threading.Event()
        while True:
            detail = registry.deployment(deployment)
            if detail.overview.complete:
                return
            self.steps.tell(
                ", ".join(f"{count} {stage}" for stage, count in detail.overview.by_stage.items())
            )
            for device in detail.devices:
                if device.stage == "failed" and not device.retrying:
                    log = self.stage.log(device.device)
                    raise DemoError(f"{device.device}: {device.reason}", log)
            self.stage.require_alive()
            if time.monotonic() > deadline:
                late = next(one for one in detail.devices if one.stage != "running")
                text = f"{late.device} is still {late.stage} after {STEP_S:g} s ({late.reason})"
                raise DemoError(text, self.stage.log(late.device))
            meanwhile()
            pause.wait(POLL_S)

    def _wait_records(
        self,
        registry: Client,
        collected: collect.Collected,
        handout: Handout,
        asker: Asker | None = None,
    ) -> None:
        wanted = [*handout.truth, *(asker.answered if asker else ())]
        missing = collected.wait_for(registry, wanted, timeout_s=QUIET_S, tell=self.steps.tell)
        if missing and asker is None:
            device, model, mark = min(missing)
            count = counted(len(missing), "record")
            text = f"{count} did not arrive, among them {model} {mark} of {device}"
            raise DemoError(text, self.stage.log(device))

    def _asker(self, handout: Handout) -> Asker:
        sockets = {device: self.stage.socket(device, DIGITS) for device in self.stage.devices}
        tensor = {"name": "image", "datatype": "FP32", "shape": [1, 64], "data": handout.example}
        return Asker(sockets, DIGITS, [tensor])

    def _traffic(
        self, collected: collect.Collected, first: collect.Transfers, then: collect.Transfers
    ) -> Traffic:
        """Return the bytes; what was not updated is counted once."""
        updates = {
            device: Update(cost[DIGITS].received_bytes, cost[DIGITS].whole_bytes)
            for device, cost in then.items()
            if DIGITS in cost
        }
        before = [cost.received_bytes for modules in first.values() for cost in modules.values()]
        return Traffic(
            bundles_bytes=sum(before) + sum(cost.received_bytes for cost in updates.values()),
            updates=updates,
            telemetry_bytes=collect.telemetry_bytes(self._database),
            telemetry_as_json_bytes=collected.as_json_bytes,
        )

    def _outcome(
        self,
        collected: collect.Collected,
        handout: Handout,
        asker: Asker,
        traffic: Traffic,
        *,
        keep: bool,
    ) -> Outcome:
        produced = [*handout.truth, *asker.answered]
        trouble = asker.failures[0] if asker.failures else ""
        if UPDATED not in asker.versions:
            trouble = trouble or "no request was answered by version 2"
        return Outcome(
            devices=self.stage.devices,
            deployments=tuple(self._deployments),
            score=score(produced, collected.records, handout.truth),
            requests=len(asker.answered) + len(asker.failures),
            failed_requests=len(asker.failures),
            traffic=traffic,
            steps=self.steps.seconds,
            seconds=time.monotonic() - self._begun,
            trouble=trouble,
            addresses=self._addresses() if keep else {},
        )

    def _addresses(self) -> dict[str, str]:
        stage, first = self.stage, self.stage.devices[0]
        login = f"packhorse login --url {stage.url} --ca {stage.ca_file} < {stage.key_file}"
        ask = f"curl --unix-socket {stage.socket(first, DIGITS)} http://localhost/v2/models/digits"
        return {
            "registry": stage.url,
            "admin key": str(stage.key_file),
            "logs": f"{stage.directory}/*.log",
            "log in": login,
            "then": "packhorse devices list; packhorse deployments list",
            "records": "packhorse telemetry stats --model digits",
            f"ask {first}": ask,
            "give it an image": f"cp IMAGE.png {stage.inbox(first)}/",
        }


def push(registry: Client, directory: Path) -> shapes.Registered:
    """Register a bundle, uploading what is new, as `packhorse models push` does."""
    built = build.build(directory)
    for digest, path in built.files.items():
        if not registry.has_blob(digest):
            registry.put_blob(digest, path)
    return registry.register(built.index.name, built.index_bytes)
