import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.config import incluster_config

from cloud.hosting.errors import RefusedError, TargetError, UnreachableError
from cloud.hosting.kubernetes import door, errors, statuses
from cloud.hosting.kubernetes.door import Door
from cloud.hosting.kubernetes.errors import (
    AbsentError,
    ConflictError,
    CredentialsError,
    DeniedError,
    ExpiredError,
)
from cloud.hosting.kubernetes.pulling import of_registry
from cloud.hosting.kubernetes.requests import Request
from cloud.hosting.kubernetes.target import KubernetesTarget
from cloud.hosting.targets import Condition, Place
from cloud.trust.authority import Authority
from tests.support import kube, kube_fixtures
from tests.support.kube import StatusError
from tests.support.kube_fixtures import Rig
from tests.support.kube_wishes import SERVICE, wish

KUBERNETES = Place("kubernetes")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with kube_fixtures.rig(tmp_path) as made:
        yield made


def status(code: int, message: str, reason: str = "") -> bytes:
    body = {"kind": "Status", "code": code, "message": message, "reason": reason}
    return json.dumps(body).encode()


RBAC = (
    'deployments.apps "churn-r1" is forbidden: User "system:serviceaccount:a:b" cannot patch '
    'resource "deployments" in API group "apps" in the namespace "models"'
)


@pytest.mark.parametrize(
    ("code", "message", "kind", "said"),
    [
        (401, "Unauthorized", CredentialsError, "renew those in the kubeconfig"),
        (403, RBAC, DeniedError, "patch deployments.apps in namespace models: grant it by deploy/"),
        (403, 'pods "x" is forbidden: exceeded quota: team', RefusedError, "exceeded quota"),
        (403, 'admission webhook "policy" denied the request: no', RefusedError, "policy"),
        (404, 'namespaces "models" not found', AbsentError, "kubectl create namespace models"),
        (404, "the server could not find the requested resource", AbsentError, "install"),
        (409, "the object has been modified", ConflictError, "modified"),
        (410, "too old resource version", ExpiredError, "too old"),
        (422, "spec.replicas: Invalid value: -1", RefusedError, "Invalid value"),
        (429, "too many requests", UnreachableError, "too many"),
        (500, 'failed calling webhook "policy": timeout', UnreachableError, "webhook"),
        (500, ".spec.x: field not declared in schema", RefusedError, "too old"),
        (503, "apiserver is shutting down", UnreachableError, "shutting down"),
        (504, "timeout", UnreachableError, "timeout"),
    ],
)
def test_each_answer_of_the_server_is_told_for_what_it_is(
    code: int, message: str, kind: type[TargetError], said: str
) -> None:
    error = errors.of_answer(
        code, status(code, message), doing="apply Deployment churn-r1", namespace="models"
    )

    assert type(error) is kind
    assert said in str(error)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"\xff" * 9, b"[" * 100_000])
def test_an_answer_that_is_no_status_is_told_all_the_same(body: bytes) -> None:
    error = errors.of_answer(502, body, doing="list pods", namespace="models")

    assert isinstance(error, UnreachableError)
    assert str(error).startswith("list pods in namespace models: ")
    assert len(str(error)) < 2 * errors.MAX_TEXT


def test_whether_waiting_helps_is_known() -> None:
    helps = {ConflictError: True, ExpiredError: True, DeniedError: False, AbsentError: False}

    assert {kind: kind.retryable for kind in helps} == helps


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (("patch", "apps", "deployments"), "patch deployments.apps"),
        (("create", "", "services"), "create services"),
        (("list", "", "pods"), "list pods"),
        (("delete", "", "secrets"), "delete secrets"),
        (("get", "", "pods/proxy"), "get pods/proxy"),
    ],
)
def test_a_missing_right_is_named_with_what_to_apply(
    rig: Rig, right: tuple[str, str, str], said: str
) -> None:
    rig.run(wish(gateway_replicas=1))
    rig.kube.granted.discard(right)
    rig.kube.store.delete("deployments", "churn-r1")
    rig.kube.store.delete("services", "churn")

    with pytest.raises(DeniedError, match=said) as caught:  # noqa: PT012 - one of these needs it
        rig.target.apply(wish())
        rig.target.delete(SERVICE)

    assert "deploy/kubernetes/" in str(caught.value)


def test_a_token_that_was_renewed_in_the_file_is_read_again(rig: Rig, tmp_path: Path) -> None:
    assert rig.seen().condition is Condition.ABSENT
    rig.kube.token = "the-next-one"

    with pytest.raises(CredentialsError, match="does not accept these credentials"):
        rig.seen()
    rig.kube.kubeconfig(tmp_path)

    assert rig.seen().condition is Condition.ABSENT


def test_a_token_of_a_program_is_asked_for(rig: Rig, tmp_path: Path) -> None:
    file = rig.kube.kubeconfig(tmp_path)
    config = yaml.safe_load(file.read_text())
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": rig.kube.token},
    }
    config["users"][0]["user"] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": ["-c", f"print({json.dumps(json.dumps(credential))})"],
            "interactiveMode": "Never",
        }
    }
    file.write_text(yaml.safe_dump(config))

    target = KubernetesTarget(KUBERNETES, kubeconfig=file)

    assert target.observe(SERVICE).condition is Condition.ABSENT
    target.close()


@pytest.mark.parametrize(
    ("place", "namespace"),
    [
        (Place("kubernetes"), "models"),
        (Place("kubernetes", context="bare"), "default"),
        (Place("kubernetes", context="bare", namespace="other"), "other"),
    ],
)
def test_the_namespace_is_the_places_or_the_contexts(
    rig: Rig, tmp_path: Path, place: Place, namespace: str
) -> None:
    target = KubernetesTarget(place, kubeconfig=rig.kube.kubeconfig(tmp_path))

    assert target._cluster.namespace == namespace
    target.close()


@pytest.mark.parametrize(
    ("content", "context"),
    [
        ("{", None),
        ("", None),
        ("[]", None),
        ("apiVersion: v1\nkind: Config\n", None),
        (None, None),
        (None, "nowhere"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_named(
    tmp_path: Path, content: str | None, context: str | None
) -> None:
    file = tmp_path / "kubeconfig"
    for text in [content] * (content is not None):
        file.write_text(text or "")

    with pytest.raises(CredentialsError, match="kubeconfig"):
        KubernetesTarget(Place("kubernetes", context=context), kubeconfig=file)


def test_a_context_that_is_not_there_is_named(rig: Rig, tmp_path: Path) -> None:
    file = rig.kube.kubeconfig(tmp_path)

    with pytest.raises(CredentialsError, match="context nowhere"):
        KubernetesTarget(Place("kubernetes", context="nowhere"), kubeconfig=file)


def test_inside_a_cluster_its_own_account_and_namespace_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = tmp_path / "account"
    account.mkdir()
    for name, text in (("token", "t"), ("namespace", "inside\n"), ("ca.crt", "x")):
        (account / name).write_text(text)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(door, "_DEFAULT", str(tmp_path / "none"))
    monkeypatch.setattr(door, "SERVICE_TOKEN_FILENAME", str(account / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(account / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(account / "ca.crt"))

    assert opened_namespace() == "inside"


def opened_namespace() -> str:
    opened = Door(None, None)
    opened.close()
    return opened.namespace


def ask(opened: Door, **more: Any) -> bytes:
    return opened.ask(Request("GET", "/api/v1/x", "list x", "models", **more))


def test_a_cluster_that_is_not_there_is_unreachable(rig: Rig, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        rig.kube.url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        file = rig.kube.kubeconfig(tmp_path)
    target = KubernetesTarget(KUBERNETES, kubeconfig=file)

    with pytest.raises(UnreachableError, match="list serviceaccounts: the cluster does not answer"):
        target.observe(SERVICE)
    target.close()


def test_a_cluster_that_does_not_answer_in_time_is_unreachable(rig: Rig, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        rig.kube.url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        opened = Door(rig.kube.kubeconfig(tmp_path), None)

        with pytest.raises(UnreachableError, match="does not answer"):
            ask(opened, timeout_s=0.1)
    opened.close()


def test_a_stream_over_tls_is_ended_by_another_thread_while_nothing_comes(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "authority", names=["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.server_cert_file, authority.server_key_file)
    begun, read = threading.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def serve() -> None:
            connection, _ = plain.accept()
            with context.wrap_socket(connection, server_side=True) as tls:
                tls.recv(1 << 16)
                tls.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n")
                begun.set()
                with contextlib.suppress(OSError):
                    tls.recv(1)  # until the client goes

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{plain.getsockname()[1]}"
        cluster = {"server": url, "certificate-authority": str(authority.ca_file)}
        opened = Door(kube.kubeconfig(tmp_path, cluster), None)
        stream = opened.stream(Request("GET", "/x", "watch x", "models", timeout_s=30))

        def consume() -> None:
            with pytest.raises(UnreachableError):
                read.extend(stream)

        reader = threading.Thread(target=consume, daemon=True)
        reader.start()
        assert begun.wait(10)
        stream.end()
        reader.join(10)
        thread.join(10)
    opened.close()

    assert (reader.is_alive(), thread.is_alive()) == (False, False)


def test_an_answer_that_is_too_large_is_refused_unread(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.run(wish())
    monkeypatch.setattr(door, "MAX_ANSWER_BYTES", 100)

    with pytest.raises(RefusedError, match="over 100 bytes"):
        rig.seen()


def test_a_failure_of_the_server_is_told_with_what_was_being_done(rig: Rig) -> None:
    rig.kube.failures["patch", "services"] = StatusError(500, "InternalError", "etcd is away")

    with pytest.raises(UnreachableError, match=r"apply Service churn.*etcd is away"):
        rig.target.apply(wish())

    rig.kube.failures.clear()
    rig.run(wish())
    assert rig.seen().condition is Condition.READY


def test_a_gateway_that_answers_nonsense_counts_as_silent(rig: Rig) -> None:
    gateway = rig.run(wish())
    rig.kube.pods.statuses[gateway] = {"who": "knows"}

    assert rig.target.statuses(SERVICE) == ()
    assert rig.seen().generation == 0


def test_a_gateway_that_is_newer_than_the_registry_is_understood(rig: Rig) -> None:
    gateway = rig.run(wish())
    stats = {"name": "r1", "requests": 5, "news": 1}
    rig.kube.pods.say(gateway, 1, revisions=[stats], healthy={"r1": ["a:1"]}, more={"a": 1})

    (status,) = rig.target.statuses(SERVICE)

    assert (status.generation, status.revisions[0].requests) == (1, 5)
    assert status.healthy == {"r1": ("a:1",)}


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"revisions": [1]}', b"\xff", b"[" * 99_999])
def test_what_is_no_status_is_not_taken_for_one(data: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        statuses.read(data)


def test_a_cluster_gets_the_password_of_the_one_registry_alone(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    auths = {"images.example": {"auth": "b25l"}, "other.example": {"auth": "dHdv"}}
    file.write_text(json.dumps({"auths": auths, "credsStore": "desktop"}))

    pulling = of_registry(file, "images.example", ("more",))

    assert json.loads(pulling.config or "") == {"auths": {"images.example": {"auth": "b25l"}}}
    assert pulling.secrets == ("more",)


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"auths": 1}', '{"auths": {"images.example": {}}}']
)
def test_a_docker_config_without_the_password_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "config.json"
    for text in [content] * (content is not None):
        file.write_text(text or "")

    with pytest.raises(RefusedError, match=r"images\.example"):
        of_registry(file, "images.example")


def test_nothing_but_a_target_imports_the_client() -> None:
    code = (
        "import sys, cloud.hosting.kubernetes.target, cloud.hosting.kubernetes.export;"
        "sys.exit('kubernetes' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_secret_of_a_request_is_not_shown() -> None:
    request = Request("PATCH", "/x", "apply Secret a", "models", body={"data": "hush"})

    assert "hush" not in repr(request)
    assert kube.TOKEN not in repr(request)
