"""What is decided about containers without an engine: plans, verdicts, permits, logins."""

import dataclasses
import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent import fleetlogins
from edge_agent.containers import crew, door, judging, logins, orders, permits, plan, refusals
from edge_agent.containers.crew import Crew
from edge_agent.containers.judging import Standing, Streak
from edge_agent.containers.logins import Logins
from edge_agent.containers.minder import ContainerMinder
from edge_agent.containers.permits import Permits
from edge_agent.containers.plan import Origin
from edge_agent.containers.yard import Yard
from edge_agent.mind import events
from edge_agent.mind.turn import Limits
from edge_agent.workers.captured import CappedLog
from runtime.bundle import containerchecks
from runtime.bundle.containers import Container, Group, Health, Port, Volume
from runtime.containers.errors import AbsentError, EngineRefusedError
from runtime.containers.specs import Bind, ContainerSeen, ContainerSpec, Mount
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.imagelogins import Login
from runtime.imageregistry import names

IMAGE = "127.0.0.1:5000/camera@sha256:" + "0" * 64
ORIGIN = Origin("dev-a", "camera", Digest("b" * 64), "camera:3")
PLAIN = Container("main", IMAGE)
HEALTH = Health(port=80, interval_s=10.0, retries=2, start_s=30.0)
SEEN = ContainerSeen("id", "name", "sha256:i", IMAGE, {}, "running")


def seen(start: str, container: str, state: str = "running") -> ContainerSeen:
    labels = plan.labels(ORIGIN, start, container)
    return dataclasses.replace(SEEN, labels=labels, state=state)


def test_the_engine_is_asked_for_what_the_bundle_says_and_restarts_nothing_itself() -> None:
    each = Container(
        "web",
        IMAGE,
        environment={"A": "b"},
        ports=(Port(80, 8080), Port(53, 5353, protocol="udp")),
        volumes=(Volume("/data", name="data"), Volume("/in", host="/srv/in", read_only=True)),
        devices=("/dev/video0",),
        memory_mb=64,
        capabilities=("NET_BIND_SERVICE",),
    )

    made = plan.spec(each, ORIGIN, "abcd")

    assert made.env == {
        "PACKHORSE_DEVICE": "dev-a",
        "PACKHORSE_MODULE": "camera",
        "PACKHORSE_VERSION": "camera:3",
        "A": "b",
    }
    assert (made.ports, made.udp_ports) == ({80: ("127.0.0.1", 8080)}, {53: ("127.0.0.1", 5353)})
    assert made.mounts == (Mount("packhorse_dev-a_camera_data", "/data"),)
    assert made.binds == (Bind("/srv/in", "/in", read_only=True),)
    assert made.devices == ("/dev/video0",)
    assert made.memory_mb == 64
    assert made.capabilities == ("NET_BIND_SERVICE",)
    assert (made.restart, made.read_only) == ("no", True)
    assert (made.network, made.aliases) == ("packhorse-camera-abcd", ("web",))


def test_a_volume_says_on_itself_whether_it_goes_with_its_module() -> None:
    group = Group(
        (
            Container("a", IMAGE, volumes=(Volume("/r", name="r"), Volume("/in", host="/srv"))),
            Container("b", IMAGE, volumes=(Volume("/c", name="c", keep=False),)),
        )
    )
    own = {plan.DEVICE: "dev-a", plan.MODULE: "camera"}

    assert plan.volumes(group, ORIGIN) == {
        "packhorse_dev-a_camera_r": own,
        "packhorse_dev-a_camera_c": {**own, plan.KEEP: "no"},
    }


def test_two_containers_say_the_same_of_a_volume_or_are_refused() -> None:
    volumes = [(Volume("/c", name="c", keep=keep),) for keep in (True, False)]
    group = Group(tuple(Container(f"c{i}", IMAGE, volumes=each) for i, each in enumerate(volumes)))

    with pytest.raises(InvalidError, match="write the same keep"):
        containerchecks.require(group)


@pytest.mark.parametrize(
    ("said", "field", "value"),
    [
        ("x: Bind for 127.0.0.1:80 failed: port is already allocated", "ports.host", "80"),
        (
            "Error starting userland proxy: listen tcp4 0.0.0.0:8080: bind: address already in use",
            "ports.host",
            "8080",
        ),
        ("listen tcp4 0.0.0.0:80: bind: permission denied", "ports.host", "80"),
        ("container create: stat /dev/video7: no such file or directory", "devices", "/dev/video7"),
        ('custom device "/dev/video7": no such file or directory', "devices", "/dev/video7"),
        ("bind source path does not exist: /srv/masks", "volumes.host", "/srv/masks"),
        ('exec: "counter": executable file not found in $PATH: unknown', "command", "counter"),
        ("unable to find user eve: no matching entries in passwd file", "user", "eve"),
        ('could not select device driver "" with capabilities: [[gpu]]', "gpu", "0"),
    ],
)
def test_what_an_engine_refuses_is_told_by_the_field_of_the_bundle(
    said: str, field: str, value: str
) -> None:
    found = refusals.explain(PLAIN, said)

    assert found is not None
    assert found.field == f"containers.main.{field}"
    assert str(found.value) == value


def test_what_is_not_known_stays_in_the_engines_own_words() -> None:
    error = EngineRefusedError("start container 1", status=500, said="the moon is full")

    with pytest.raises(EngineRefusedError, match="the moon"), refusals.explained(PLAIN):
        raise error


@pytest.mark.parametrize(
    ("each", "words"),
    [
        (Container("a", IMAGE, memory_mb=64), "cgroup_enable=memory"),
        (Container("a", IMAGE, gpus=1), "Podman gives no GPU"),
    ],
)
def test_what_an_engine_would_leave_out_without_a_word_is_refused(
    each: Container, words: str
) -> None:
    refusals.require(each, limits_memory=True, gives_gpus=True)
    with pytest.raises(InvalidError, match=words):
        refusals.require(each, limits_memory=False, gives_gpus=False)


def test_no_line_is_copied_twice_or_left_out_where_times_are_whole_seconds() -> None:
    first, upto = crew.unread([b"T1 a", b"T2 b"], crew.UNREAD)
    second, upto = crew.unread([b"T1 a", b"T2 b", b"T2 c", b"T3 d"], upto)
    third, upto = crew.unread([b"T2 c", b"T3 d", b"T3 d"], upto)

    assert (first, second, third) == ([b"a", b"b"], [b"c", b"d"], [b"d"])
    assert crew.unread([], upto) == ([], upto)


def test_only_what_is_whole_and_minded_by_nobody_is_taken_over() -> None:
    group = Group((Container("a", IMAGE), Container("b", IMAGE)))
    half = [seen("1", "a")]
    stopped = [seen("2", "a", "exited"), seen("2", "b", "exited")]
    running = [seen("3", "a"), seen("3", "b")]

    assert plan.whole_start(group, half, ()) == ""
    assert plan.whole_start(group, [*half, *stopped], ()) == "2"
    assert plan.whole_start(group, [*running, *stopped], ()) == "3"
    assert plan.whole_start(group, [*running, *stopped], ("3",)) == "2"


@pytest.mark.parametrize(
    ("changes", "standing", "text"),
    [
        ({"state": "exited", "exit_code": 3}, Standing.FAILED, "main ended with code 3"),
        ({"state": "exited", "exit_code": 137}, Standing.FAILED, "main ended with code 137"),
        ({"state": "exited", "oom_killed": True}, Standing.FAILED, "more memory than it may"),
        ({"state": "created"}, Standing.NOT_YET, "is created"),
        ({"state": "paused"}, Standing.NOT_YET, "paused by somebody else"),
        ({"health": "starting", "health_said": "no\nlens"}, Standing.NOT_YET, "yet: no lens"),
        ({"health": "unhealthy", "health_said": "no lens"}, Standing.FAILED, "unhealthy: no lens"),
        ({"health": "healthy"}, Standing.GOOD, ""),
    ],
)
def test_a_container_is_judged_by_what_the_engine_says(
    changes: dict[str, object], standing: Standing, text: str
) -> None:
    told = dataclasses.replace(SEEN, **changes)  # type: ignore[arg-type]

    verdict = judging.judge(PLAIN, told, running_s=0.0, trial_s=10.0, streak=None)

    assert verdict.standing is standing
    assert text in verdict.text


def test_without_a_health_check_a_container_must_run_for_a_while() -> None:
    def judged(running_s: float) -> Standing:
        return judging.judge(PLAIN, SEEN, running_s=running_s, trial_s=10.0, streak=None).standing

    assert (judged(9.9), judged(10.0)) == (Standing.NOT_YET, Standing.GOOD)


class SlowEngine:
    """Takes half a minute to start a container."""

    now, state = 1000.0, "created"

    def containers(self, _labels: Mapping[str, str]) -> tuple[ContainerSeen, ...]:
        return ()

    def networks(self, _labels: Mapping[str, str]) -> tuple[str, ...]:
        return ()

    def make_network(self, _name: str, _labels: Mapping[str, str]) -> None:
        """It has one for everybody."""

    def create(self, _name: str, _spec: ContainerSpec) -> str:
        return SEEN.id

    def start(self, _container: str) -> None:
        self.now, self.state = self.now + 30.0, "running"

    def container(self, _name: str) -> ContainerSeen:
        return dataclasses.replace(SEEN, state=self.state)


def test_the_time_that_an_engine_takes_to_start_a_container_is_no_part_of_its_trial() -> None:
    engine: Any = SlowEngine()
    tried = Crew(ORIGIN, Group((PLAIN,), trial_s=10.0))
    tried.enlist(engine, ())
    found = []
    for passed_s in (0.0, 9.9, 0.2):
        engine.now += passed_s
        found.append(tried.advance(engine, lambda: engine.now)["main"].standing)

    assert found == [Standing.NOT_YET, Standing.NOT_YET, Standing.GOOD]


def test_a_container_that_may_end_has_done_its_work_with_code_0_only() -> None:
    job = Container("main", IMAGE, restart="on-failure")

    def judged(code: int) -> Standing:
        ended = dataclasses.replace(SEEN, state="exited", exit_code=code)
        return judging.judge(job, ended, running_s=0.0, trial_s=10.0, streak=None).standing

    assert (judged(0), judged(1)) == (Standing.GOOD, Standing.FAILED)


def test_failures_over_http_count_only_after_the_start_and_in_a_row() -> None:
    each = Container("main", IMAGE, health=HEALTH)

    def standing(streak: Streak) -> Standing:
        return judging.judge(each, SEEN, running_s=99.0, trial_s=1.0, streak=streak).standing

    early = Streak(0.0).noted(HEALTH, "refused", 1.0).noted(HEALTH, "refused", 29.0)
    late = early.noted(HEALTH, "refused", 31.0)
    assert [standing(each) for each in (early, late)] == [Standing.NOT_YET, Standing.NOT_YET]
    assert standing(late.noted(HEALTH, "refused", 41.0)) is Standing.FAILED
    good = late.noted(HEALTH, "", 41.0)
    assert standing(good) is Standing.GOOD
    assert standing(good.noted(HEALTH, "refused", 51.0)) is Standing.GOOD, "one may be lost"
    assert (early.next_at, good.next_at) == (30.0, 51.0), "sooner again while it starts"


@pytest.mark.parametrize(
    ("each", "setting"),
    [
        (Container("a", IMAGE, volumes=(Volume("/e", host="/etc"),)), "container_roots"),
        (Container("a", IMAGE, volumes=(Volume("/e", host="/srv-2"),)), "container_roots"),
        (Container("a", IMAGE, devices=("/dev/sda",)), "container_devices"),
        (Container("a", IMAGE, capabilities=("SYS_ADMIN",)), "container_capabilities"),
        (Container("a", IMAGE, network="host"), "container_host_network"),
    ],
)
def test_what_the_owner_of_a_device_does_not_allow_is_refused_with_the_setting(
    each: Container, setting: str
) -> None:
    allowed = Permits(("/srv",), ("/dev/video*",), ("NET_BIND_SERVICE",))

    with pytest.raises(InvalidError, match=setting):
        permits.require(Group((each,)), allowed)


def test_what_the_owner_allows_may_be_had() -> None:
    each = Container(
        "a",
        IMAGE,
        volumes=(Volume("/in", host="/srv/in"), Volume("/data", name="data")),
        devices=("/dev/video0",),
        capabilities=("NET_RAW",),
        network="host",
    )

    permits.require(
        Group((each,)), Permits(("/srv",), ("/dev/video*",), ("NET_RAW",), host_network=True)
    )


def test_logins_are_kept_for_the_agent_alone(tmp_path: Path) -> None:
    kept = Logins(tmp_path)
    kept.write("127.0.0.1:5000", Login("carrier", "open sesame"))
    kept.write("other.example", Login("x", "y"))
    kept.write("other.example", None)

    found = kept.of(IMAGE)
    assert found is not None
    assert (found.username, found.password) == ("carrier", "open sesame")
    assert "sesame" not in repr(kept.read())
    assert kept.of("camera") is None
    (tmp_path / logins.NAME).chmod(0o644)
    with pytest.raises(InvalidError, match="chmod 600"):
        kept.of(IMAGE)


def test_a_devices_own_login_comes_before_the_fleets_and_the_fix_says_whose_it_is(
    tmp_path: Path,
) -> None:
    kept, host = Logins(tmp_path), names.host(IMAGE)
    fleets = tmp_path / fleetlogins.NAME
    fleets.write_text(
        f'{{"made": "1", "logins": {{"{host}": {{"username": "f", "password": "x"}}}}}}'
    )
    fleets.chmod(0o600)

    assert getattr(kept.of(IMAGE), "username", "") == "f"
    assert kept.fix(IMAGE).endswith(f"`packhorse image-logins set {host}`")
    assert "the fleet's login" in kept.fix(IMAGE)
    kept.write(host, Login("own", "y"))
    assert getattr(kept.of(IMAGE), "username", "") == "own"
    assert f"packhorse-agent registry-login {host}" in kept.fix(IMAGE)
    kept.write(host, None)
    fleets.chmod(0o644)
    assert kept.of(IMAGE) is None, "what others may read is not believed"


def test_a_damaged_file_of_logins_is_named_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / logins.NAME
    path.write_bytes(b'{"a": "sesame')
    path.chmod(0o600)

    with pytest.raises(InvalidError, match="log in anew") as caught:
        Logins(tmp_path).read()

    assert "sesame" not in str(caught.value)


def test_dockers_socket_is_taken_before_podmans(tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    (runtime / "podman").mkdir(parents=True)
    podman, docker = runtime / "podman/podman.sock", tmp_path / "var/run/docker.sock"
    environment = {"XDG_RUNTIME_DIR": str(runtime)}

    assert door.default_url(environment, root=tmp_path) == f"unix://{docker}", "for the error"
    podman.touch()
    assert door.default_url(environment, root=tmp_path) == f"unix://{podman}"
    docker.parent.mkdir(parents=True)
    docker.touch()
    assert door.default_url(environment, root=tmp_path) == f"unix://{docker}"


def test_a_group_travels_in_an_index_unchanged() -> None:
    group = Group((Container("a", IMAGE, health=HEALTH),), start="stop-then-start")

    assert msgspec.json.decode(msgspec.json.encode(group), type=Group) == group


@pytest.mark.parametrize(
    ("error", "accepted", "failed"),
    [
        (EngineRefusedError("start", status=400, said="no such program"), False, True),
        (EngineRefusedError("start", status=500, said="context deadline exceeded"), False, False),
        (InvalidError("containers.main.ports.host", "80", "publish another"), False, True),
        (AbsentError("create", status=404, said="no such image"), True, True),
        (EngineRefusedError("start", status=409, said="is being removed"), True, False),
    ],
)
def test_a_start_fails_for_what_was_asked_and_not_for_what_the_engine_did_wrong_itself(
    error: EngineRefusedError | InvalidError, *, accepted: bool, failed: bool
) -> None:
    assert orders.is_failure(error, accepted=accepted) == failed


class FailingEngine(SlowEngine):
    """Answers each start with a failure of its own."""

    def start(self, _container: str) -> None:
        raise EngineRefusedError("start", status=500, said="context deadline exceeded")

    def remove(self, _container: str) -> None:
        """It has nothing."""

    def remove_network(self, _name: str) -> None:
        """It has none."""


class Door:
    """The way to one engine."""

    def engine(self) -> Any:
        return FailingEngine()


def test_a_start_that_the_engine_itself_did_wrong_has_ended_and_not_failed_so_it_is_tried_again(
    tmp_path: Path,
) -> None:
    heard: queue.Queue[events.Event] = queue.Queue()
    door: Any = Door()
    minder = ContainerMinder(
        1,
        ORIGIN,
        Group((PLAIN,)),
        yard=Yard(),
        door=door,
        told=orders.Told(heard.put, lambda _trouble: None),
        limits=Limits(),
        printed=CappedLog(tmp_path / "log"),
    )
    assert minder.join(20)

    (ended,) = [heard.get_nowait() for _ in range(heard.qsize())]

    assert isinstance(ended, events.WorkerExited)
    assert "context deadline exceeded" in ended.text
    assert (ended.final, ended.blameless) == (False, False)
