"""What pushes and pulls by the client go through: cuts, kills, stores that cannot be reached."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cloud.client import Client
from cloud.client.blobs import Wanted
from cloud.errors import ClientError
from runtime import digests
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError
from tests.support import parts, processes, registries, s3
from tests.support.brokers import eventually
from tests.support.registries import Registry

PART = 8 << 20
LARGE = 3 * PART + 12345


class Served:
    """A registry behind TLS, and a client of it."""

    def __init__(self, registry: Registry, url: str) -> None:
        self.registry, self.url = registry, url
        self.ca_pem = registry.services.authority.ca_pem
        self.client = Client(url, registry.key, self.ca_pem)

    def has(self, digest: Digest) -> bool:
        return self.registry.services.blobs.has(digest)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with (
        registries.running(tmp_path / "data") as registry,
        registries.listening(registry) as url,
    ):
        made = Served(registry, url)
        yield made
        made.client.close()


def file_of(tmp_path: Path, name: str, size: int) -> tuple[Digest, Path]:
    path = tmp_path / name
    path.write_bytes(os.urandom(size))
    return digests.of_file(path), path


def test_files_large_and_small_arrive_and_come_back(served: Served, tmp_path: Path) -> None:
    sizes = [0, 1, 100_000, PART, PART + 1, LARGE]
    sent = dict(file_of(tmp_path, f"file-{size}", size) for size in sizes)
    up: list[int] = []
    served.client.put_blobs(sent, up.append)
    wanted = [
        Wanted(digest, path.stat().st_size, tmp_path / f"back-{path.name}", 0o644)
        for digest, path in sent.items()
    ]
    down: list[int] = []
    served.client.fetch_blobs(wanted, down.append)

    assert sum(up) == sum(down) == sum(sizes)
    for each in wanted:
        assert digests.of_file(each.target) == each.digest
        assert each.target.stat().st_mode & 0o777 == 0o644
    assert not list(tmp_path.glob(".*.partial")) + list(tmp_path.glob(".*.have"))


KILLED = """
import sys
from pathlib import Path
from cloud.client import Client
from runtime import digests
url, key, ca, name = sys.argv[1:]
passed = 0
def progress(count):
    global passed
    passed += count
    if passed > 9_000_000:
        print("passed", flush=True)
with Client(url, key, Path(ca).read_text()) as client:
    client.put_blobs({digests.of_file(Path(name)): Path(name)}, progress)
"""


def test_a_killed_push_goes_on_where_it_was(served: Served, tmp_path: Path) -> None:
    digest, path = file_of(tmp_path, "large", LARGE)
    ca = tmp_path / "ca.pem"
    ca.write_text(served.ca_pem)
    argv = [sys.executable, "-c", KILLED, served.url, served.registry.key, str(ca), str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"passed\n"
        child.send_signal(signal.SIGKILL)
    uploads = served.registry.services.uploads
    wish = {"sha256": digest, "size_bytes": LARGE}
    eventually(lambda: bool(arrived(served, wish)), "a part has arrived")
    before = len(arrived(served, wish))
    seen: list[int] = []
    served.client.put_blobs({digest: path}, seen.append)

    assert served.has(digest)
    assert seen[0] >= before * PART - PART, "what had arrived is counted at once"
    assert sum(seen) == LARGE
    assert uploads.stale() == 0
    assert not list((served.registry.services.settings.data / "uploads").iterdir())


def arrived(served: Served, wish: dict[str, Any]) -> list[int]:
    found: list[int] = served.registry.post("/api/v1/uploads", wish)["arrived"]
    return found


@pytest.mark.slow
def test_a_push_outlives_a_killed_registry(tmp_path: Path) -> None:
    """Killed in the middle of parts, started again at the same address."""
    parts.require("nats-server")
    digest, path = file_of(tmp_path, "large", LARGE)
    halfway = threading.Event()
    passed = [0]

    def progress(count: int) -> None:
        passed[0] += count
        if passed[0] > PART:
            halfway.set()

    with processes.scratch() as place, processes.registry(place) as registry:
        client = Client(registry.url, registry.key, registry.ca_pem, attempts=60)
        pushing = threading.Thread(target=client.put_blobs, args=({digest: path}, progress))
        pushing.start()
        assert halfway.wait(30)
        registry.kill()
        registry.start()
        pushing.join()

        assert client.has_blob(digest)
        client.close()
    assert passed[0] == LARGE, "progress is right through retries"


def test_a_file_that_changes_while_it_is_sent_is_refused(served: Served, tmp_path: Path) -> None:
    digest, path = file_of(tmp_path, "large", LARGE)
    with path.open("r+b") as file:
        file.write(b"changed since it was counted")

    with pytest.raises(InvalidError, match="changed while it was sent"):
        served.client.put_blobs({digest: path})
    assert not served.has(digest)


def test_a_broken_off_pull_goes_on_with_what_had_arrived(served: Served, tmp_path: Path) -> None:
    """Four pieces travel at once: after more than those, one at least is done."""
    size = 5 * PART + 12345
    digest, path = file_of(tmp_path, "large", size)
    served.client.put_blobs({digest: path})
    wanted = Wanted(digest, size, tmp_path / "back", 0o600)
    with pytest.raises(KeyboardInterrupt):
        served.client.fetch_blobs([wanted], interrupting_after(4 * PART + PART // 2))
    (have,) = tmp_path.glob(".*.have")
    done = have.read_bytes()[:5].count(b"1") * PART
    again: list[int] = []
    served.client.fetch_blobs([wanted], again.append)

    assert digests.of_file(wanted.target) == digest
    assert sum(again) == size
    assert again[0] in {done, done + 12345}
    assert done > 0


def test_a_spoiled_partial_file_is_fetched_anew(served: Served, tmp_path: Path) -> None:
    digest, path = file_of(tmp_path, "large", LARGE)
    served.client.put_blobs({digest: path})
    wanted = Wanted(digest, LARGE, tmp_path / "back", 0o600)
    with pytest.raises(KeyboardInterrupt):
        served.client.fetch_blobs([wanted], interrupting_after(3 * PART))
    (partial,) = tmp_path.glob(".*.partial")
    partial.write_bytes(b"?" * partial.stat().st_size)
    served.client.fetch_blobs([wanted])

    assert digests.of_file(wanted.target) == digest


def interrupting_after(limit: int) -> Any:
    passed = [0]

    def progress(count: int) -> None:
        passed[0] += count
        if passed[0] >= limit:
            raise KeyboardInterrupt

    return progress


def test_wrong_bytes_never_take_the_name(served: Served, tmp_path: Path) -> None:
    digest, path = file_of(tmp_path, "file", 1000)
    served.client.put_blobs({digest: path})
    found = next(served.registry.services.settings.data.glob(f"blobs/??/{digest}"))
    found.chmod(0o600)
    found.write_bytes(bytes(1000))

    with pytest.raises(IntegrityError):
        served.client.fetch_blobs([Wanted(digest, 1000, tmp_path / "back", 0o600)])
    assert not (tmp_path / "back").exists()


@pytest.fixture
def bucket(tmp_path: Path, s3_server: s3.Server) -> Iterator[tuple[Served, s3.Trouble]]:
    """A registry on S3 behind a proxy that can misbehave."""
    with (
        s3_server.behind() as trouble,
        registries.running(
            tmp_path / "data", blobs_url=s3_server.url(trouble.endpoint)
        ) as registry,
        registries.listening(registry) as url,
    ):
        made = Served(registry, url)
        yield made, trouble
        made.client.close()


def test_a_pull_comes_straight_from_the_store(
    bucket: tuple[Served, s3.Trouble], tmp_path: Path
) -> None:
    served, trouble = bucket
    digest, path = file_of(tmp_path, "large", LARGE)
    served.client.put_blobs({digest: path})
    trouble.seen.clear()
    served.client.fetch_blobs([Wanted(digest, LARGE, tmp_path / "back", 0o600)])

    gets = [seen for method, seen in trouble.seen if method == "GET"]
    assert digests.of_file(tmp_path / "back") == digest
    assert len(gets) == 4
    assert all("X-Amz-Signature" in seen for seen in gets)


def test_a_pull_survives_a_store_that_cuts_and_refuses(
    bucket: tuple[Served, s3.Trouble], tmp_path: Path
) -> None:
    served, trouble = bucket
    digest, path = file_of(tmp_path, "large", LARGE)
    served.client.put_blobs({digest: path})
    faults = iter([s3.Fault(cut_after=1000), s3.Fault(status=403), s3.Fault(status=500)])
    trouble.plan = lambda _method, _path: next(faults, s3.FINE)
    seen: list[int] = []
    served.client.fetch_blobs([Wanted(digest, LARGE, tmp_path / "back", 0o600)], seen.append)

    assert digests.of_file(tmp_path / "back") == digest
    assert sum(seen) == LARGE


def test_a_push_survives_a_store_that_fails_now_and_then(
    bucket: tuple[Served, s3.Trouble], tmp_path: Path
) -> None:
    served, trouble = bucket
    digest, path = file_of(tmp_path, "large", LARGE)
    faults = iter([s3.Fault(status=500), s3.FINE, s3.Fault(status=503), s3.Fault(delay_s=0.5)])
    trouble.plan = lambda _method, _path: next(faults, s3.FINE)
    served.client.put_blobs({digest: path})

    assert served.has(digest)


def test_a_store_that_refuses_is_told_and_leaves_nothing_half_done(
    bucket: tuple[Served, s3.Trouble], tmp_path: Path
) -> None:
    served, trouble = bucket
    digest, path = file_of(tmp_path, "small", 1000)
    trouble.plan = lambda method, _path: s3.Fault(403 if method in {"PUT", "POST"} else None)

    with pytest.raises(ClientError, match="store: could not store") as raised:
        served.client.put_blobs({digest: path})
    assert raised.value.status == 503
    assert served.registry.get("/api/v1/models")["items"] == []
    assert not list(served.registry.services.store.scratch().iterdir())

    trouble.plan = lambda _method, _path: s3.FINE
    served.client.put_blobs({digest: path})
    assert served.has(digest)


def test_a_client_whom_the_store_refuses_is_served_by_the_registry(
    bucket: tuple[Served, s3.Trouble], tmp_path: Path
) -> None:
    served, trouble = bucket
    digest, path = file_of(tmp_path, "file", 1000)
    served.client.put_blobs({digest: path})
    trouble.plan = lambda _method, path: s3.Fault(403 if "X-Amz-Signature" in path else None)
    served.client.fetch_blobs([Wanted(digest, 1000, tmp_path / "back", 0o600)])

    assert digests.of_file(tmp_path / "back") == digest


def test_the_key_is_not_shown_to_the_store(
    bucket: tuple[Served, s3.Trouble], tmp_path: Path
) -> None:
    served, _trouble = bucket
    digest, path = file_of(tmp_path, "small", 1000)
    served.client.put_blobs({digest: path})
    transport = served.client._transport

    assert "authorization" not in transport.outside.headers
    assert isinstance(transport.outside, httpx2.Client)
