"""Logins to image registries: kept sealed, and sealed anew for each device that shall have them."""

import datetime as dt
import io
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from cloud.cli import imagelogins as command
from cloud.registry import desired
from edge_agent.fleetlogins import NAME, FleetLogins
from runtime import imagelogins, sealing
from runtime.errors import InvalidError
from runtime.imagelogins import ImageLogins, Login
from runtime.messages import Desired
from runtime.topics import DeviceId
from tests.support import registries
from tests.support.brokers import csr
from tests.support.registries import Registry, Stores

LOGINS = "/api/v1/image-logins"
HOST = "images.example:5000"
TOKEN = "open sesame " + "x" * 4096


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.running(tmp_path) as running:
        yield running


def keep(registry: Registry, password: str = TOKEN, *, host: str = HOST, **fields: str) -> int:
    wish = {"registry": host, "username": "carrier", "password": password, **fields}
    made: int = registry.post(LOGINS, wish, 201)["id"]
    return made


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def told(registry: Registry, device: str) -> Desired:
    with registry.services.reading() as session:
        found = desired.read(session, DeviceId(device))
    assert found is not None
    return found


def opened(registry: Registry, device: str) -> dict[str, Login]:
    """Return what a device finds in its desired state."""
    given = told(registry, device).image_logins
    return {} if given is None else imagelogins.unseal(given, pem(registry.device_key))


def test_a_device_has_the_logins_of_its_selectors_and_no_others(
    tmp_path: Path, stores: Stores
) -> None:
    with registries.running(tmp_path, stores=stores) as registry:
        require_logins_by_selector(registry)


def require_logins_by_selector(registry: Registry) -> None:
    registry.enrol("one", labels={"site": "lab"})
    keep(registry)
    keep(registry, "for the lab", selector="site=lab", username="lab")
    keep(registry, "elsewhere", selector="site=field", host="other.example")
    registry.enrol("two", labels={"site": "field"})

    assert opened(registry, "one") == {HOST: Login("lab", "for the lab")}, "the newest"
    assert opened(registry, "two") == {
        HOST: Login("carrier", TOKEN),
        "other.example": Login("carrier", "elsewhere"),
    }


def test_a_login_changes_and_goes_with_the_next_generation_and_nothing_else_makes_one(
    registry: Registry,
) -> None:
    registry.enrol("one")
    first = keep(registry)
    before = told(registry, "one")
    registry.enrol("two", labels={"site": "x"})
    assert told(registry, "one") == before, "nothing is sealed anew that need not be"

    assert keep(registry, "changed") == first
    assert opened(registry, "one") == {HOST: Login("carrier", "changed")}
    assert told(registry, "one").generation == before.generation + 1
    assert registry.http.delete(f"{LOGINS}/{first}").status_code == 204

    assert told(registry, "one").image_logins is None
    assert told(registry, "one").generation == before.generation + 2
    kinds = [each["kind"] for each in registry.get("/api/v1/events?kind=image_login.*")["items"]]
    assert kinds == ["image_login.created", "image_login.changed", "image_login.removed"]


def test_a_device_that_enrols_with_another_key_can_read_its_logins_again(
    registry: Registry,
) -> None:
    registry.enrol("one")
    keep(registry)
    registry.device_key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(InvalidError, match="another certificate"):
        opened(registry, "one")

    wish = {
        "token": registry.token(device_id="one"),
        "csr": csr(registry.device_key),
        "device_id": "one",
        "facts": {},
    }
    registries.checked(registry.bare.post("/api/v1/enrol", json=wish), 201)

    assert opened(registry, "one") == {HOST: Login("carrier", TOKEN)}


def test_a_revoked_device_is_told_no_login(registry: Registry) -> None:
    registry.enrol("one")
    keep(registry)

    registry.post("/api/v1/devices/one/revoke")

    assert told(registry, "one").image_logins is None


def test_no_answer_no_event_and_no_error_has_a_password_in_it(registry: Registry) -> None:
    keep(registry)
    long = "sesame" * 10_000
    wish = {"registry": HOST, "username": "carrier", "password": long}
    refused = registry.http.post(LOGINS, json=wish)

    assert refused.status_code == 422
    said = [refused.text, registry.http.get(LOGINS).text, registry.http.get("/api/v1/events").text]
    assert not any("sesame" in each for each in said)


@pytest.mark.parametrize(
    ("field", "value"),
    [("registry", "https://x/"), ("registry", "a b"), ("username", ""), ("password", ""),
     ("selector", "site="), ("username", "a\nb")],
)  # fmt: skip
def test_what_is_wrong_with_a_login_is_named(tmp_path: Path, field: str, value: str) -> None:
    with registries.running(tmp_path) as registry:
        wish = {"registry": HOST, "username": "carrier", "password": "x", field: value}
        refused = registry.http.post(LOGINS, json=wish)

        assert refused.status_code == 422
        assert field in refused.text
        assert registry.get(LOGINS)["items"] == []


def test_the_database_alone_tells_no_password(tmp_path: Path) -> None:
    with registries.running(tmp_path) as registry:
        registry.enrol("one")
        keep(registry)
    with sqlite3.connect(tmp_path / "registry.db") as database:
        assert "sesame" not in "".join(database.iterdump())
        assert database.execute("SELECT count(*) FROM image_login").fetchone() == (1,)


def test_only_admins_see_and_change_logins(tmp_path: Path) -> None:
    with registries.running(tmp_path) as registry:
        key = registry.post("/api/v1/keys", {"name": "op", "role": "operator"}, 201)["key"]
        headers = {"Authorization": f"Bearer {key}"}

        asked = [registry.bare.get(LOGINS, headers=headers),
                 registry.bare.post(LOGINS, headers=headers, json={}),
                 registry.bare.delete(f"{LOGINS}/1", headers=headers)]  # fmt: skip

        assert [each.status_code for each in asked] == [403, 403, 403]


def test_a_device_keeps_what_it_is_given_for_itself_alone_and_forgets_it_when_told(
    tmp_path: Path,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "identity").mkdir()
    (tmp_path / "identity/device.key").write_bytes(pem(key))
    given = imagelogins.seal({HOST: Login("carrier", TOKEN)}, certificate_of(key), "1")
    kept = FleetLogins(tmp_path)

    assert kept.take(given) == ""
    assert kept.read() == {HOST: Login("carrier", TOKEN)}
    assert (tmp_path / NAME).stat().st_mode & 0o077 == 0

    wrong = ImageLogins("2", sealing.seal(b"{}", certificate_of()))
    assert "ask the device for its present one" in kept.take(wrong)
    assert kept.read() == {HOST: Login("carrier", TOKEN)}, "the old ones stay"
    assert kept.take(None) == ""
    assert kept.read() == {}
    assert not (tmp_path / NAME).exists()


def certificate_of(key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    """Return a certificate for a key, of anybody."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "one")])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now.replace(year=2040))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("data", "wrong"),
    [(b"", "0 bytes"), (b"\n", "0 bytes"), (b"x" * 40, "bytes"), (b"\xff", "1 bytes")],
)
def test_a_password_that_is_missing_too_long_or_no_text_is_refused_whole(
    monkeypatch: pytest.MonkeyPatch, data: bytes, wrong: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    with pytest.raises(InvalidError, match=wrong):
        command.read_password(30)
