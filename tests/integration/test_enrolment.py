from pathlib import Path

import pytest
from cryptography import x509

from cloud.registry import devices
from cloud.trust import certificates
from edge_agent import enrol
from edge_agent.enrol import EnrolRefusedError, Identity
from runtime.errors import LinkError
from runtime.topics import DeviceId
from tests.support import registries
from tests.support.https import Answer, serving

JSON = {"Content-Type": "application/json"}


def test_a_device_whose_answer_was_lost_enrols_with_the_same_token_and_key(tmp_path: Path) -> None:
    """The registry has committed, the connection ends without a byte of an answer."""
    with registries.running(tmp_path / "registry") as registry:
        authority, answers = registry.services.authority, []

        def handler(method: str, path: str, body: bytes) -> Answer:
            answer = registry.bare.request(method, path, content=body, headers=JSON)
            if path == "/api/v1/enrol":
                answers.append(answer)
                if len(answers) == 1:
                    raise ConnectionAbortedError
            return answer.status_code, answer.content

        token = registry.token()
        with serving(handler, authority) as url:
            with pytest.raises(LinkError):
                _enrol(tmp_path / "device", url, token)
            assert enrol.load(tmp_path / "device") is None
            identity = _enrol(tmp_path / "device", url, token)
            with pytest.raises(EnrolRefusedError, match="used to enrol dev-a"):
                _enrol(tmp_path / "thief", url, token)

        assert identity.device == "dev-a"
        assert [answer.status_code for answer in answers] == [201, 201, 409]
        certificate = (tmp_path / "device/identity/device.pem").read_text()
        assert certificate == answers[0].json()["certificate"]
        with registry.services.reading() as session:
            assert devices.certificates(session) == {DeviceId("dev-a"): _serial(certificate)}


def _serial(pem: str) -> str:
    return certificates.serial_of(x509.load_pem_x509_certificate(pem.encode()))


def _enrol(data: Path, url: str, token: str) -> Identity:
    return enrol.enrol(data, url=url, token=token, device_id="dev-a", facts={"arch": "x"})
