import datetime as dt
import json
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from cloud.trust.authority import Authority
from edge_agent import enrol
from edge_agent.enrol import EnrolRefusedError, Identity
from runtime import files
from runtime.errors import IntegrityError, InvalidError, LinkError, PackhorseError
from runtime.topics import DeviceId
from tests.support.https import Answer, Handler, serving

SECRET = "pht_" + "s" * 43
JSON = {"Content-Type": "application/json"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("authority"))


def _token(authority: Authority) -> str:
    return f"{SECRET}.{authority.fingerprint}"


class Registry:
    """The two routes that a device enrols by, with the real authority behind them."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.requests: list[dict[str, Any]] = []
        self.spoil: Callable[[dict[str, Any]], dict[str, Any]] = lambda answer: answer

    def __call__(self, _method: str, path: str, body: bytes) -> Answer:
        if path == "/api/v1/ca":
            return 200, self.authority.ca_pem.encode()
        assert path == "/api/v1/enrol"
        request = json.loads(body)
        self.requests.append(request)
        device = DeviceId(request["device_id"] or "made-up")
        certificate, _ = self.authority.sign_device_csr(request["csr"], device)
        answer = {
            "device": device,
            "certificate": certificate,
            "ca": self.authority.ca_pem,
            "broker": {"host": "broker.example", "port": 8883},
            "registry_url": "https://registry.example:8443",
            "certificate_not_after": 2e9,
            "a_field_of_tomorrow": True,
        }
        return 201, json.dumps(self.spoil(answer)).encode()


def _refusing(authority: Authority, status: int, body: bytes) -> Handler:
    def handler(_method: str, path: str, _body: bytes) -> Answer:
        return (200, authority.ca_pem.encode()) if path.endswith("/ca") else (status, body)

    return handler


def _enrol(data: Path, url: str, token: str, **more: Any) -> Identity:
    return enrol.enrol(
        data, url=url, token=token, **({"device_id": "dev-a", "facts": {"arch": "x"}} | more)
    )


def test_a_device_that_enrols_gets_a_name_a_certificate_and_an_address(
    authority: Authority, tmp_path: Path
) -> None:
    registry = Registry(authority)
    with serving(registry, authority) as url:
        identity = _enrol(tmp_path, url, _token(authority))

    assert identity == Identity(
        "dev-a", "https://registry.example:8443", "broker.example", 8883,
        authority.fingerprint, 2e9,
    )  # fmt: skip
    assert enrol.load(tmp_path) == identity
    assert (tmp_path / "identity/ca.pem").read_text() == authority.ca_pem
    certificate = x509.load_pem_x509_certificate((tmp_path / "identity/device.pem").read_bytes())
    (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert name.value == "dev-a"
    assert certificate.not_valid_before_utc == dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
    assert stat.S_IMODE((tmp_path / "identity/device.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "identity.json").stat().st_mode) == 0o600
    (request,) = registry.requests
    assert request["token"] == _token(authority)
    assert request["facts"] == {"arch": "x"}
    assert "PRIVATE" not in json.dumps(request)


def test_the_registry_may_choose_the_name(authority: Authority, tmp_path: Path) -> None:
    with serving(Registry(authority), authority) as url:
        assert _enrol(tmp_path, url, _token(authority), device_id=None).device == "made-up"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        SECRET,
        f"{SECRET}.{'0' * 63}",
        f"{SECRET}.{'G' * 64}",
        f"{SECRET[4:]}.{'0' * 64}",
        f"{SECRET}.{'0' * 64}\nmore",
    ],
)
def test_a_token_that_was_cut_or_mangled_is_refused_with_what_one_looks_like(
    token: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidError, match=r"looks like pht_SECRET\.FINGERPRINT") as caught:
        _enrol(tmp_path, "https://127.0.0.1:9", token)

    assert "sssss" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        (401, "token: it was not made here: run `packhorse devices token`"),
        (409, "token: it was used to enrol dev-b; each works once"),
        (410, "token: it expired 12 seconds ago"),
    ],
)
def test_what_the_registry_says_against_a_token_is_shown_as_it_is(
    authority: Authority, tmp_path: Path, status: int, detail: str
) -> None:
    problem = json.dumps({"type": "x", "status": status, "detail": detail}).encode()
    with (
        serving(_refusing(authority, status, problem), authority) as url,
        pytest.raises(EnrolRefusedError) as caught,
    ):
        _enrol(tmp_path, url, _token(authority))

    assert str(caught.value) == detail
    assert not caught.value.retryable
    assert enrol.load(tmp_path) is None


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ((503, b'{"detail": "busy"}'), LinkError, "trouble of its own: busy: try again later"),
        ((502, b"<html>"), LinkError, "status 502"),
        ((404, b""), EnrolRefusedError, "status 404"),
        ((403, b'{"detail": "\\u001b[2Jboo"}'), EnrolRefusedError, r"^\[2Jboo$"),
        ((201, b"{}"), LinkError, "answered what no registry answers"),
        ((201, b"\xff"), LinkError, "answered what no registry answers"),
        ((200, b"x" * 70_000), LinkError, "more than 65536 bytes"),
    ],
)
def test_any_other_answer_is_a_clear_error(
    authority: Authority,
    tmp_path: Path,
    answer: Answer,
    kind: type[PackhorseError],
    said: str,
) -> None:
    with (
        serving(_refusing(authority, *answer), authority) as url,
        pytest.raises(kind, match=said),
    ):
        _enrol(tmp_path, url, _token(authority))

    assert enrol.load(tmp_path) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device", "dev-b"),
        ("device", "../../etc"),
        ("broker", {"host": "", "port": 8883}),
        ("broker", {"host": "broker", "port": 70000}),
        ("registry_url", "http://elsewhere.example"),
        ("certificate", "nonsense"),
        ("certificate", "ca"),
    ],
)
def test_an_answer_that_does_not_fit_is_not_kept(
    authority: Authority, tmp_path: Path, field: str, value: Any
) -> None:
    registry = Registry(authority)
    registry.spoil = lambda answer: {**answer, field: answer["ca"] if value == "ca" else value}
    with serving(registry, authority) as url, pytest.raises(InvalidError):
        _enrol(tmp_path, url, _token(authority))

    assert enrol.load(tmp_path) is None


def test_a_certificate_of_another_device_or_key_is_not_kept(
    authority: Authority, tmp_path: Path
) -> None:
    other = authority.registry_cert_file.read_text()
    registry = Registry(authority)
    registry.spoil = lambda answer: {**answer, "certificate": other}
    with (
        serving(registry, authority) as url,
        pytest.raises(InvalidError, match="of our key and name"),
    ):
        _enrol(tmp_path, url, _token(authority))


def test_an_impostor_gets_neither_the_token_nor_a_request(
    authority: Authority, tmp_path: Path
) -> None:
    impostor = Registry(Authority.open(tmp_path / "impostor"))
    with serving(impostor, impostor.authority) as url, pytest.raises(IntegrityError):
        _enrol(tmp_path / "device", url, _token(authority))

    assert impostor.requests == []
    assert not (tmp_path / "device").exists()


def test_an_impostor_that_hands_out_the_right_ca_gets_no_token_either(
    authority: Authority, tmp_path: Path
) -> None:
    """The CA certificate is public; what counts is who has its server key."""
    impostor = Registry(authority)
    with (
        serving(impostor, Authority.open(tmp_path / "impostor")) as url,
        pytest.raises(LinkError, match="not trusted"),
    ):
        _enrol(tmp_path / "device", url, _token(authority))

    assert impostor.requests == []


def test_enrolled_once_is_enough_unless_forced(authority: Authority, tmp_path: Path) -> None:
    registry = Registry(authority)
    with serving(registry, authority) as url:
        first = _enrol(tmp_path, url, _token(authority))
        with pytest.raises(InvalidError, match="enrolled already; give --force"):
            _enrol(tmp_path, url, _token(authority))
        again = _enrol(tmp_path, url, _token(authority), device_id="dev-b", force=True)

    assert again == replace(first, device="dev-b")
    assert enrol.load(tmp_path) == again


def test_a_second_try_uses_the_same_key(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any durable write, the next run completes, and the key stays what it was."""
    registry = Registry(authority)
    keys: set[bytes] = set()

    def cut_before(steps: int) -> Callable[[str, Path], None]:
        left = iter(range(steps))

        def commit_point(_step: str, _path: Path) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        return commit_point

    with serving(registry, authority) as url:
        for steps in range(1, 40):
            with monkeypatch.context() as patch:
                patch.setattr(files, "commit_point", cut_before(steps))
                try:
                    _enrol(tmp_path, url, _token(authority))
                except KeyboardInterrupt:
                    assert steps < 20
                else:
                    break
            key = tmp_path / "identity/device.key"
            keys |= {key.read_bytes()} if key.exists() else set()
            if enrol.load(tmp_path) is not None:
                break

    assert len(keys) == 1
    assert (tmp_path / "identity/device.key").read_bytes() in keys


def test_damaged_files_are_named(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "identity.json").write_text("{")
    with pytest.raises(InvalidError, match=r"identity\.json.*--force"):
        enrol.load(tmp_path)
    (tmp_path / "identity").mkdir()
    (tmp_path / "identity/device.key").write_text("nonsense")
    with (
        serving(Registry(authority), authority) as url,
        pytest.raises(InvalidError, match=r"device\.key.*remove it"),
    ):
        _enrol(tmp_path, url, _token(authority), force=True)


def test_to_import_it_loads_nothing_heavy() -> None:
    script = "import sys, edge_agent.enrol; print('cryptography' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True, text=True
    )

    assert said.stdout == "False\n"
