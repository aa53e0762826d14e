from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.registry import desired, devices, enrolment
from cloud.services import Change
from runtime.topics import DeviceId
from tests.support import registries
from tests.support.brokers import csr
from tests.support.registries import Registry, Stores


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path, stores=stores) as running:
        yield running


def ask(registry: Registry, token: str, **body: Any) -> Any:
    wish = {"token": token, "csr": csr(registry.device_key), **body}
    return registry.bare.post("/api/v1/enrol", json=wish)


def test_a_device_gets_its_name_its_certificate_and_the_addresses(registry: Registry) -> None:
    answer = registry.enrol("cam-1", facts={"arch": "aarch64"}, labels={"site": "lab"})
    certificate = x509.load_pem_x509_certificate(answer["certificate"].encode())

    assert answer["device"] == "cam-1"
    (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert name.value == "cam-1"
    assert certificate.not_valid_after_utc.timestamp() == answer["certificate_not_after"]
    assert answer["ca"] == registry.services.authority.ca_pem
    assert answer["broker"] == {"host": "registry.test", "port": 8883}
    assert answer["registry_url"] == registries.URL
    device = registry.get("/api/v1/devices/cam-1")
    assert device["labels"] == {"site": "lab"}
    assert device["facts"] == {"arch": "aarch64"}
    assert device["presence"] == "unknown"
    assert device["generation"] == 1


def test_a_token_names_the_registry_by_its_ca(registry: Registry) -> None:
    secret, _, fingerprint = registry.token().partition(".")

    assert secret.startswith("pht_")
    assert fingerprint == registry.services.authority.fingerprint


def test_a_device_without_a_name_gets_one(registry: Registry) -> None:
    answer = ask(registry, registry.token())

    assert answer.status_code == 201
    assert answer.json()["device"].startswith("dev-")


def test_an_unknown_token_is_refused(registry: Registry) -> None:
    answer = ask(registry, "pht_wrong." + "0" * 64)

    assert answer.status_code == 401
    assert answer.json()["type"] == "urn:packhorse:problem:token-unknown"


def test_a_token_works_once(registry: Registry) -> None:
    token = registry.token()
    ask(registry, token, device_id="one")
    answer = ask(registry, token, device_id="two")

    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:packhorse:problem:token-used"
    assert "used to enrol one" in answer.json()["detail"]
    assert registry.bare.get("/api/v1/devices/two").status_code == 401
    assert registry.http.get("/api/v1/devices/two").status_code == 404


def test_a_device_whose_answer_was_lost_asks_again_and_gets_the_same(registry: Registry) -> None:
    token = registry.token(ttl_s=60)
    first = ask(registry, token, device_id="one", facts={"arch": "x"})
    registry.clock.at += 61  # expired meanwhile, but used not long ago
    told: list[Change] = []
    registry.services.notifier.subscribe(Change.DEVICES, lambda: told.append(Change.DEVICES))

    for more in ({"device_id": "one"}, {}):
        again = ask(registry, token, **more)
        assert (again.status_code, again.json()) == (201, first.json())

    # The broker may have missed it the first time.
    assert told == [Change.DEVICES] * 2
    events = registry.get("/api/v1/events?subject=one")["items"]
    assert [event["kind"] for event in events] == ["device.enrolled"]
    with registry.services.reading() as session:
        assert devices.revoked_serials(session) == []
    assert registry.get("/api/v1/devices/one")["facts"] == {"arch": "x"}


def test_a_device_that_got_a_name_asks_again_and_keeps_it(registry: Registry) -> None:
    token = registry.token()

    assert ask(registry, token).json() == ask(registry, token).json()
    assert len(registry.get("/api/v1/devices")["items"]) == 1


def test_a_used_token_is_worth_nothing_with_another_key(registry: Registry) -> None:
    token = registry.token()
    ask(registry, token, device_id="one")
    registry.device_key = ec.generate_private_key(ec.SECP256R1())
    answer = ask(registry, token, device_id="one")

    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:packhorse:problem:token-used"


def test_a_used_token_is_worth_nothing_once_its_device_has_another_key(registry: Registry) -> None:
    token = registry.token()
    ask(registry, token, device_id="one")
    first, registry.device_key = registry.device_key, ec.generate_private_key(ec.SECP256R1())
    registry.enrol("one", device_id="one")
    registry.device_key = first

    assert ask(registry, token).status_code == 409


def test_a_used_token_does_not_bring_back_a_revoked_device(registry: Registry) -> None:
    token = registry.token()
    ask(registry, token, device_id="one")
    registry.post("/api/v1/devices/one/revoke")

    assert ask(registry, token).status_code == 409
    assert registry.get("/api/v1/devices/one")["revoked_at"] is not None


@pytest.mark.parametrize(("ttl_s", "late_s"), [(60, enrolment.AGAIN_S), (3600, 3600)])
def test_a_used_token_gets_its_answer_again_for_a_while_only(
    registry: Registry, ttl_s: float, late_s: float
) -> None:
    token = registry.token(ttl_s=ttl_s)
    ask(registry, token, device_id="one")
    registry.clock.at += late_s
    assert ask(registry, token).status_code == 201
    registry.clock.at += 1

    assert ask(registry, token).status_code == 409


def test_a_bad_request_with_a_used_token_gets_nothing(registry: Registry) -> None:
    token = registry.token()
    ask(registry, token, device_id="one")

    assert ask(registry, token, csr="not a request").status_code == 422


def test_a_token_expires(registry: Registry) -> None:
    token = registry.token(ttl_s=60)
    registry.clock.at += 61
    answer = ask(registry, token)

    assert answer.status_code == 410
    assert answer.json()["type"] == "urn:packhorse:problem:token-expired"
    assert "expired 1 seconds ago" in answer.json()["detail"]


@pytest.mark.parametrize("request_text", ["", "not a request", "-----BEGIN CERTIFICATE-----"])
def test_a_bad_request_leaves_the_token_unused(registry: Registry, request_text: str) -> None:
    token = registry.token()
    refused = registry.bare.post(
        "/api/v1/enrol", json={"token": token, "csr": request_text, "device_id": "one"}
    )

    assert refused.status_code == 422
    assert ask(registry, token, device_id="one").status_code == 201


@pytest.mark.parametrize("device", ["UPPER", "_registry", "a/b", "+", "", "x" * 64])
def test_ids_that_could_be_topics_of_others_are_refused(registry: Registry, device: str) -> None:
    assert ask(registry, registry.token(), device_id=device).status_code == 422


def test_a_token_for_one_id_enrols_no_other(registry: Registry) -> None:
    token = registry.token(device_id="one")

    assert ask(registry, token, device_id="two").status_code == 422
    assert ask(registry, token).json()["device"] == "one"


def test_nobody_takes_over_an_id_with_an_ordinary_token(registry: Registry) -> None:
    registry.enrol("one")
    answer = ask(registry, registry.token(), device_id="one")

    assert answer.status_code == 409
    assert "packhorse devices token --device one" in answer.json()["detail"]


def test_enrolling_again_replaces_the_certificate_and_renews_the_desired_state(
    registry: Registry,
) -> None:
    registry.enrol("one", labels={"site": "lab"})
    with registry.services.reading() as session:
        first = devices.get(session, "one").certificate_serial
    registry.enrol("one", device_id="one", labels={"floor": "2"})

    with registry.services.reading() as session:
        row = devices.get(session, "one")
        assert devices.revoked_serials(session) == [first]
        assert row.certificate_serial != first
        assert devices.certificates(session) == {"one": row.certificate_serial}
        assert row.labels == {"site": "lab", "floor": "2"}
        wanted = desired.read(session, DeviceId("one"))
    assert wanted is not None
    assert wanted.generation == 2


def test_a_revoked_device_is_out_until_a_token_for_its_id(registry: Registry) -> None:
    registry.enrol("one")
    registry.post("/api/v1/devices/one/revoke")
    with registry.services.reading() as session:
        assert devices.allowed(session) == []
        assert devices.certificates(session) == {}
        assert len(devices.revoked_serials(session)) == 1
    registry.enrol("one", device_id="one")

    with registry.services.reading() as session:
        assert devices.allowed(session) == ["one"]


def test_whoever_waits_for_devices_is_told_after_the_commit_and_before_the_answer(
    registry: Registry,
) -> None:
    seen: list[list[DeviceId]] = []

    def look() -> None:
        with registry.services.reading() as session:
            seen.append(devices.allowed(session))

    registry.services.notifier.subscribe(Change.DEVICES, look)
    registry.enrol("one")
    assert seen == [["one"]]
    ask(registry, "pht_wrong")
    assert len(seen) == 1
    registry.post("/api/v1/devices/one/revoke")
    registry.post("/api/v1/devices/one/revoke")
    assert seen == [["one"], []]


def test_the_history_says_who_let_whom_in(registry: Registry) -> None:
    registry.enrol("one")
    registry.post("/api/v1/devices/one/revoke")
    events = registry.get("/api/v1/events?subject=one")["items"]

    assert [(event["actor"], event["kind"]) for event in events] == [
        ("device:one", "device.enrolled"),
        ("key:admin", "device.revoked"),
    ]


@pytest.mark.parametrize("ttl", [0, -1, 7 * 86400 + 1])
def test_tokens_live_a_week_at_most(registry: Registry, ttl: int) -> None:
    assert registry.http.post("/api/v1/devices/tokens", json={"ttl_s": ttl}).status_code == 422
