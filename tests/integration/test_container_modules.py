"""Containers as modules: real agents, real engines (Docker, Podman), a real image registry."""

import contextlib
import gzip
import http.client
import json
import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.containers import plan
from edge_agent.doctor import examine
from edge_agent.doctor.findings import Level
from runtime import operations
from runtime.containers.engine import Engine
from runtime.containers.specs import Address
from runtime.messages import Command, Phase
from tests.support import (
    agents,
    containerboxes,
    engines,
    imageregistry,
    podmans,
    smallimages,
    uplinks,
)
from tests.support.brokers import HOST, free_port
from tests.support.containerboxes import Box
from tests.support.imageregistry import ImageRegistry
from tests.support.smallimages import server, shell

STOP_THEN_START = "start: stop-then-start\n"


@pytest.fixture(scope="module")
def image_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageRegistry]:
    """One that runs as long as this module's tests."""
    with imageregistry.serving(tmp_path_factory.mktemp("images")) as registry:
        yield registry


@pytest.fixture(scope="module")
def images(engine: Engine, image_registry: ImageRegistry) -> dict[str, str]:
    """Three images in that registry."""
    return smallimages.make(engine, image_registry)


@pytest.fixture(scope="module")
def docker_url(engine_rig: engines.Rig) -> str:
    return engine_rig.url


@pytest.fixture(scope="module")
def podman_url(image_registry: ImageRegistry) -> Iterator[str]:
    with podmans.serving(image_registry) as url:
        yield url


@pytest.fixture
def box(docker_url: str, images: dict[str, str]) -> Iterator[Box]:
    with on(docker_url, images) as made:
        yield made


@pytest.fixture(params=["docker_url", "podman_url"])
def either(images: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Box]:
    """The same on both engines: what they say differs, and what a device does must not."""
    with on(request.getfixturevalue(request.param), images) as made:
        yield made


@contextlib.contextmanager
def on(url: str, images: dict[str, str]) -> Iterator[Box]:
    """Give a device that uses an engine."""
    with agents.device() as device, contextlib.closing(Engine(Address(url))) as engine:
        made = Box(device, engine, images)
        (device.directory / "srv").mkdir()
        device.start(
            engine_url=url,
            container_roots=[str(device.directory / "srv")],
            container_devices=["/dev/*"],
        )
        try:
            yield made
        finally:
            device.kill()
            made.clear()


def ask(port: int) -> str:
    """Return what answers on a port of this machine; "": nobody does."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    return ""


def test_a_new_version_is_tried_beside_the_old_one_which_goes_when_it_is_good(box: Box) -> None:
    one = box.bundle("one", shell("echo one; exec sleep 600"))
    two = box.bundle("two", shell("echo two; exec sleep 600"), image=box.images["2"])
    box.run(one)
    first = box.running(one)

    box.want(two)
    box.until(lambda: bool(box.running(two)), "the new one is started")
    assert box.running(one) or box.told().phase is Phase.RUNNING
    box.device.until_running(two, name=box.module)

    box.until(
        lambda: [seen.id for seen in box.containers()] == [box.running(two)[0].id], "one left"
    )
    assert first
    assert first[0].id != box.running(two)[0].id
    assert box.engine.images.find(box.images["1"]), "that of the version before is kept"


def test_a_version_that_holds_a_port_stops_the_old_one_first_and_gives_way_if_it_fails(
    either: Box,
) -> None:
    port = free_port()
    ports = f"\nports: [{{host: {port}, port: 8080}}]\nhealth: {{http: {{port: 8080, path: %s}}"
    ports += ", interval_s: 0.1, retries: 20, start_s: %d}"
    one = either.bundle("one", server("one") + ports % ("/", 30), top=STOP_THEN_START)
    two = either.bundle("two", server("two") + ports % ("/", 30), top=STOP_THEN_START)
    sick = either.bundle("sick", server("sick") + ports % ("/sick", 0), top=STOP_THEN_START)
    either.run(one)
    assert ask(port) == "one"

    reason = "container main is unhealthy: GET :8080/sick: status 500"
    either.want(sick)
    assert reason in either.failed(sick)
    either.until(lambda: ask(port) == "one", "the old one answers again")
    assert len(either.running(one)) == 1
    assert not either.running(sick)
    either.until(lambda: either.told().running is not None, "it is told")

    either.run(two)
    assert ask(port) == "two"

    before = either.running(two)[0].id
    asked = Command("c1", operations.RESTART, either.module)
    uplinks.command(either.device.folder, asked)
    either.until(lambda: uplinks.result(either.device.folder, asked) is not None, "it is restarted")
    assert ask(port) == "two"
    assert either.running(two)[0].id != before


def test_a_version_that_ends_in_its_trial_is_refused_with_its_code_and_last_words(
    box: Box,
) -> None:
    one = box.bundle("one", shell("exec sleep 600"))
    bad = box.bundle("bad", shell("echo no camera at /dev/video7 >&2; exit 3"), trial_s=9)
    box.run(one)
    before = box.running(one)[0]

    box.want(bad)

    told = box.failed(bad)
    assert "container main ended with code 3; it said last: no camera at /dev/video7" in told
    now = box.running(one)[0]
    assert (now.id, now.started_at) == (before.id, before.started_at), "it was not touched"


def test_containers_outlive_the_agent_and_the_next_one_takes_them_over(box: Box) -> None:
    one = box.bundle("one", shell("exec sleep 600"))
    box.run(one)
    before = box.running(one)

    box.device.kill()
    assert box.running(one) == before
    box.device.start()
    box.device.until_running(one, name=box.module)
    box.device.stop()
    assert box.running(one) == before
    box.device.start()
    box.device.until_running(one, name=box.module)

    assert box.containers() == before, "nothing was started twice"


def test_an_agent_that_is_killed_while_it_tries_a_version_starts_nothing_twice(box: Box) -> None:
    one = box.bundle("one", shell("exec sleep 600"), top=STOP_THEN_START)
    two = box.bundle("two", shell("exec sleep 600"), top=STOP_THEN_START, trial_s=3)
    box.run(one)
    box.want(two)
    waits = "container main is not good yet: it must run for 3 s; one:1 is stopped while this one"
    box.until(lambda: waits in box.told().reason, "it is being tried")
    told = box.told()
    assert (told.phase, told.running) == (Phase.CHECKING, None), "nothing runs meanwhile"
    assert told.since > time.time() - 60
    box.until(lambda: bool(box.running(two)), "the new one is up")

    box.device.kill()
    box.device.start()
    box.device.until_running(two, name=box.module)

    box.until(lambda: len(box.containers()) == 1, "only one is left")
    assert len(box.running(two)) == 1


def test_a_container_that_dies_is_started_again_and_the_report_says_why(either: Box) -> None:
    one = either.bundle("one", shell("echo the lens cap is on; exec sleep 600"))
    either.run(one)
    died = either.running(one)[0].id
    asked = Command("l1", operations.LOGS, either.module)
    uplinks.command(either.device.folder, asked)
    either.until(lambda: uplinks.result(either.device.folder, asked) is not None, "logs are told")
    told = uplinks.result(either.device.folder, asked)
    assert told is not None
    assert gzip.decompress(told.data) == b"main: the lens cap is on\n"

    either.engine.signal(died, "KILL")

    either.until(lambda: either.told().restarts == 1, "it was noticed")
    either.device.until_running(one, name=either.module)
    assert either.running(one)[0].id != died
    assert either.device.log().count("main: the lens cap is on") == 1, "nothing is kept twice"


def test_a_crash_loop_has_its_reason_in_the_report(box: Box) -> None:
    box.device.stop()
    box.device.start(crash_limit=2)
    one = box.bundle("one", shell("sleep 1; echo too hot; exit 9"))

    box.want(one)
    box.until(lambda: "crash loop" in box.told().reason, "it is noticed")

    assert "ended with code 9; it said last: too hot" in box.told().reason


CLIENT = (
    "use IO::Socket::INET; $| = 1; my $s = IO::Socket::INET->new('db:8080') or die 'no db';"
    " print $s qq(GET / HTTP/1.0\\r\\n\\r\\n); print 'got ', <$s>, qq(\\n); sleep 600"
)
GROUP = """
trial_s: 0.5
containers:
  web:
    image: {image}
    command: [perl, -e, {client}]
    needs: [db]
    stop_s: 0
  db:
    image: {image}
    command: [perl, -e, {server}]
    environment: {{WORD: {word}}}
    health: {{http: {{port: 8080}}, interval_s: 0.1}}
    stop_s: 0
"""


def group(box: Box, word: str) -> Path:
    text = GROUP.format(
        image=box.images["1"],
        word=word,
        server=json.dumps(smallimages.SERVER),
        client=json.dumps(CLIENT),
    )
    return box.bundle(word, "", write=text)


def test_a_group_changes_together_and_each_waits_for_what_it_needs(either: Box) -> None:
    one, two = group(either, "alpha"), group(either, "beta")

    either.run(one)
    assert len(either.running(one)) == 2
    web = next(each for each in either.running(one) if each.labels[plan.CONTAINER] == "web")
    either.until(
        lambda: "alpha" in "".join(either.engine.tail(web.id, 9)), "it reached db by its name"
    )

    either.run(two)
    either.until(lambda: len(either.containers()) == 2, "the old group is gone")
    assert len(either.running(two)) == 2

    broken = either.bundle(
        "broken",
        "",
        write=GROUP.format(image=either.images["1"], word="x", server="'exit 4'", client="sleep"),
    )
    either.want(broken)
    assert "container db ended with code 4" in either.failed(broken)
    assert len(either.running(two)) == 2


def test_a_group_of_which_one_fails_late_goes_back_as_a_whole(box: Box) -> None:
    port = free_port()
    one = box.bundle("one", "", write=published(box, port, "alpha", "exec sleep 600"))
    two = box.bundle("two", "", write=published(box, port, "beta", "sleep 1; echo no ink; exit 5"))
    box.run(one)
    before = {each.id for each in box.running(one)}
    assert ask(port) == "alpha"

    box.want(two)

    assert "container b ended with code 5; it said last: no ink" in box.failed(two)
    box.until(lambda: ask(port) == "alpha", "both of the old ones are back")
    box.until(lambda: {each.id for each in box.containers()} == before, "no new one is left")
    box.until(lambda: len(box.running(one)) == 2, "both run")
    assert len(box.engine.networks({plan.MODULE: box.module})) == 1


def published(box: Box, port: int, word: str, script: str) -> str:
    """Return a group of a server, which is good at once, and of one that needs it."""
    return f"""start: stop-then-start
trial_s: 5
containers:
  a:
    image: {box.images["1"]}
    command: [perl, -e, {json.dumps(smallimages.SERVER)}]
    environment: {{WORD: {word}}}
    ports: [{{host: {port}, port: 8080}}]
    health: {{http: {{port: 8080}}, interval_s: 0.1}}
    stop_s: 0
  b:
    image: {box.images["1"]}
    {shell(script)}
    needs: [a]
    stop_s: 0
"""


def test_what_a_device_cannot_give_is_named_with_a_fix_and_the_old_version_runs_on(
    box: Box,
) -> None:
    one = box.bundle("one", shell("exec sleep 600"))
    box.run(one)
    srv = box.device.directory / "srv"
    told = []
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        for name, top, text in (
            ("port", STOP_THEN_START, f"ports: [{{host: {port}, port: 80}}]"),
            ("device", "", "devices: [/dev/video77]"),
            ("path", "", f"volumes: [{{host: {srv}/none, path: /a}}]"),
            ("program", "", "command: [nosuch]"),
            ("user", "", "user: eve"),
            ("memory", "", f"{shell(HUNGRY)}\nresources: {{memory_mb: 32}}"),
        ):
            bad = box.bundle(name, text, top=top, trial_s=9)
            box.want(bad)
            told.append(box.failed(bad))

    wanted = (
        f"containers.main.ports.host: '{port}' is not accepted: another program of",
        "containers.main.devices: '/dev/video77' is not accepted: this device has none",
        f"containers.main.volumes.host: '{srv}/none' is not accepted: this device has no",
        "containers.main.command: 'nosuch' is not accepted: the image has no such program",
        "containers.main.user: 'eve' is not accepted: the image has no such user",
        "it used more memory than it may (32 MiB: resources.memory_mb)",
    )
    assert [text in said for text, said in zip(wanted, told, strict=True)] == [True] * 6, told
    box.until(
        lambda: [seen.running for seen in box.containers()] == [True], "one is left, and runs"
    )
    assert len(box.running(one)) == 1


HUNGRY = """exec perl -e 'my @a; push @a, "x" x 1000000 while 1'"""


def test_a_container_has_its_device_its_limits_and_its_volumes(box: Box) -> None:
    """A device that every machine has, but no container unless it is given it."""
    node = Path(f"/dev/packhorse-{box.module}")
    script = (
        "echo written > %s && cat %s; echo here > /data/a; echo there > /cache/b; exec sleep 600"
    )
    text = (
        shell(script.replace("%s", str(node)))
        + f"\ndevices: [{node}]\nresources: {{memory_mb: 48, cpu: 0.5}}\n"
        + "volumes: [{name: data, path: /data}, {name: cache, path: /cache, keep: false}]"
    )
    os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    try:
        one = box.bundle("one", text)
        box.run(one)
    finally:
        node.unlink()
    seen = box.running(one)[0]
    assert (seen.memory_mb, seen.cpu) == (48, 0.5)
    assert box.engine.tail(seen.id, 9) == (), "what was written to the null device is gone"
    data, cache = (plan.volume(box.origin, name) for name in ("data", "cache"))
    assert box.engine.read_files(seen.id, "/data") == {"a": b"here\n"}
    assert box.engine.read_files(seen.id, "/cache") == {"b": b"there\n"}

    two = box.bundle("two", text.replace("there", "again").replace(f"devices: [{node}]", ""))
    box.run(two)
    assert set(box.volumes()) == {data, cache}, "versions share them"
    box.device.want_all()
    box.until(lambda: set(box.volumes()) == {data}, "data stays, the cache goes with the module")


def test_a_container_that_has_done_its_work_is_not_started_again(box: Box) -> None:
    done = box.bundle("done", shell("echo done") + "\nrestart: on-failure")
    box.run(done)
    (before,) = box.containers()

    box.device.kill()
    box.device.start()
    box.device.until_running(done, name=box.module)

    (after,) = box.containers()
    assert (after.id, after.state, after.started_at) == (before.id, "exited", before.started_at)
    assert box.told().restarts == 0


def test_the_doctor_says_which_engine_the_agent_uses(
    engine_rig: engines.Rig, tmp_path: Path
) -> None:
    (tmp_path / "agent.toml").write_text(f'engine_url = "{engine_rig.url}"\n')
    found = examine.examine(tmp_path, environment={})
    (told,) = (each for each in found.findings if each.area == "containers")

    assert told.level is Level.OK
    assert re.fullmatch(rf"Engine \d+\S+ at {engine_rig.url}", told.text)


def test_a_module_that_is_removed_leaves_no_container_no_network_and_no_image_17(
    box: Box,
) -> None:
    """Complaint 17: old container images stay after their component is removed."""
    image = box.images["3"]
    one = box.bundle("one", shell("exec sleep 600"), image=image)
    box.run(one)
    assert box.engine.images.find(image)

    box.device.want_all()

    box.until(lambda: not box.containers(), "its containers are gone")
    box.until(lambda: not box.engine.images.find(image), "so is the image")
    assert box.engine.networks({plan.MODULE: box.module}) == ()


def test_an_agent_that_is_killed_while_it_removes_a_module_leaves_nothing_of_it(box: Box) -> None:
    """Not even if another module runs the same bundle, which is therefore kept."""
    twin = f"{box.module}-twin"
    deaf = f"  image: {box.images['1']}\n  {shell('exec sleep 600')}\n  stop_s: 5\n"
    volumes = "  volumes: [{name: cache, path: /cache, keep: false}]\n"
    one = box.bundle("one", "", write=f"trial_s: 0.5\ncontainer:\n{deaf}{volumes}")
    try:
        box.device.want_all(*(box.device.spec(one, module=each) for each in (box.module, twin)))
        for each in (box.module, twin):
            box.device.until_running(one, name=each)
        (other,) = box.engine.containers({plan.MODULE: twin})

        box.device.want_all(box.device.spec(one, module=twin))
        box.until(lambda: "phase=stopping" in box.device.log(), "it is told to stop")
        box.device.kill()
        assert box.containers(), "it takes its time to stop"
        box.device.start()

        box.until(lambda: not box.containers(), "its containers are gone")
        box.until(lambda: not box.volumes(), "so is its cache")
        assert box.engine.networks({plan.MODULE: box.module}) == ()
        box.device.until_running(one, name=twin)
        assert box.engine.container(other.id) == other, "it was not touched"
    finally:
        box.device.kill()
        containerboxes.clear(box.engine, twin)


def test_what_the_journal_does_not_know_any_more_is_removed_at_the_next_start(box: Box) -> None:
    """As if the agent had been killed after its last word on the module, before the removal."""
    volumes = "\nvolumes: [{name: cache, path: /cache, keep: false}]"
    box.run(box.bundle("one", shell("exec sleep 600") + volumes))
    box.device.kill()
    box.device.want_all()
    (box.device.data / "journal.json").unlink()
    assert box.containers()
    assert box.volumes()

    box.device.start()

    box.until(lambda: not box.containers(), "its containers are gone")
    box.until(lambda: not box.volumes(), "so is its cache")
    notes = box.device.data / "containers" / "modules"
    box.until(lambda: not list(notes.iterdir()), "nothing is remembered of it")


def test_what_a_container_writes_to_its_log_is_limited(box: Box) -> None:
    loud = "i=0; while [ $i -lt 60000 ]; do echo ' 0123456789 0123456789 0123456789'; i=$((i+1));"
    one = box.bundle(
        "one", shell(f"{loud} done; echo done; sleep 600") + "\nlogs: {max_mb: 1, files: 2}"
    )
    box.run(one)
    container = box.running(one)[0].id
    box.until(lambda: box.engine.tail(container, 1) == ("done",), "it has written 6 MB")

    path = Path(box.engine._api.inspect_container(container)["LogPath"])
    written = [each.stat().st_size for each in path.parent.glob(f"{path.name}*")]
    assert len(written) <= 2
    assert sum(written) < 2_100_000


def test_an_image_that_the_registry_does_not_have_is_refused_and_what_runs_runs_on(
    box: Box,
) -> None:
    one = box.bundle("one", shell("exec sleep 600"))
    box.run(one)
    missing = f"{box.images['1'].partition('@')[0]}@sha256:{'1' * 64}"

    bundle = box.bundle("missing", "", image=missing)
    box.want(bundle)

    assert "manifest unknown" in box.failed(bundle)
    assert not box.told().retrying
    assert box.running(one)


def test_a_device_gives_containers_only_what_its_owner_allows(box: Box) -> None:
    bundle = box.bundle("greedy", "volumes: [{host: /etc, path: /etc, read_only: true}]")

    box.want(bundle)

    assert "container_roots in its agent.toml" in box.failed(bundle)
    assert not box.told().retrying


def test_a_registry_with_a_password_is_asked_again_until_the_login_is_right_2(
    box: Box, engine: Engine, tmp_path: Path
) -> None:
    """Complaint 2: a pull that failed some times was never tried again until a restart."""
    with imageregistry.serving(tmp_path, guarded=True) as guarded:
        known = imageregistry.CREDENTIALS
        image = smallimages.make(engine, guarded, known, versions=("2",))["2"]
        bundle = box.bundle("one", shell("exec sleep 600"), image=image)
        box.want(bundle)
        box.until(lambda: "lets in only who logs in" in box.told().reason, "nobody is let in")
        assert box.told().retrying
        assert f"registry-login {HOST}:{guarded.port}` on the device" in box.told().reason

        login(box, guarded.port, "wrong")
        box.until(
            lambda: f"refuses the login of {known.username}" in box.told().reason,
            "a wrong one is not",
        )
        login(box, guarded.port, known.password)

        box.device.until_running(bundle, name=box.module)
        assert known.password not in box.device.log()


def login(box: Box, port: int, password: str) -> None:
    """Log in to an image registry as a person at the device does."""
    at, who = f"{HOST}:{port}", imageregistry.CREDENTIALS.username
    subprocess.run(
        [
            *(sys.executable, "-m", "edge_agent", "registry-login", at),
            *("--username", who, "--data", str(box.device.data)),
        ],
        input=password.encode() + b"\n",
        check=True,
        cwd=agents.ROOT,
    )


def test_an_engine_that_is_away_is_reported_and_what_ran_runs_again_when_it_is_back(
    images: dict[str, str],
) -> None:
    with engines.alone() as rig, agents.device() as device:
        device.start(engine_url=rig.url)
        with contextlib.closing(Engine(Address(rig.url))) as engine:
            box = Box(device, engine, images)
            one = box.bundle("one", shell("exec sleep 600"))
            two = box.bundle("two", shell("exec sleep 600"), image=images["2"])
            box.run(one)
            rig.stop()
            box.until(lambda: "engine: connect to the engine" in box.troubles(), "it is reported")
            box.want(two)
            box.until(lambda: "start the engine" in box.told().reason, "and why two does not come")
            assert box.told().retrying

        rig.start()
        with contextlib.closing(Engine(Address(rig.url))) as engine:
            box.engine = engine
            device.until_running(two, name=box.module)
            box.until(lambda: len(box.running(two)) == 1, "it is there")
        assert "engine:" not in box.troubles()


def test_a_device_that_boots_without_a_network_starts_its_containers_33(
    box: Box,
) -> None:
    """Complaint 33: a node that was rebooted offline did not start its pods."""
    one = box.bundle("one", shell("exec sleep 600"))
    box.run(one)
    box.device.kill()
    for seen in box.containers():
        box.engine.stop(seen.id, grace_s=0)
    (box.device.folder / "offline").touch()

    box.device.start()

    box.device.until_running(one, name=box.module)
    assert len(box.running(one)) == 1
