"""How image registries let in, by a real one's tokens, and send on to where the bytes are."""

import base64
import contextlib
import datetime as dt
import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from runtime.containers.specs import Credentials
from runtime.imageregistry import lines, names
from runtime.imageregistry.client import RegistryClient
from runtime.imageregistry.errors import DeniedError, ImageAnswerError, NoRangesError
from tests.support import imageregistry
from tests.support.brokers import HOST

KNOWN = imageregistry.CREDENTIALS
Answer = tuple[int, dict[str, str], bytes]
Answers = Callable[[str, dict[str, str]], Answer]


@contextlib.contextmanager
def answering(answers: Answers) -> Iterator[int]:
    """Serve HTTP on this machine by a function of path and headers; give the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = answers(self.path, dict(self.headers.items()))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer((HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class TokenServer:
    """Gives a registry's tokens to who knows the password."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tokens")])
        now = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
        made = x509.CertificateBuilder(
            name, name, self._key.public_key(), 7, now, now.replace(year=2049)
        )
        self.certificate = made.sign(self._key, hashes.SHA256())
        self.asked = 0

    def __call__(self, path: str, headers: dict[str, str]) -> Answer:
        self.asked += 1
        pair = base64.b64encode(f"{KNOWN.username}:{KNOWN.password}".encode()).decode()
        if headers.get("Authorization") != f"Basic {pair}":
            return 401, {}, b"{}"
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
        kind, name, actions = query["scope"][0].split(":")
        now = int(time.time())
        claims = {
            "iss": "tokens", "sub": KNOWN.username, "aud": query["service"][0], "jti": str(now),
            "exp": now + 60, "nbf": now - 60, "iat": now,
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }  # fmt: skip
        return 200, {}, json.dumps({"token": self._signed(claims)}).encode()

    def _signed(self, claims: dict[str, object]) -> str:
        der = self.certificate.public_bytes(Encoding.DER)
        head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        body = ".".join(_url64(json.dumps(each).encode()) for each in (head, claims))
        signature = self._key.sign(body.encode(), ec.ECDSA(hashes.SHA256()))
        pair = b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(signature))
        return f"{body}.{_url64(pair)}"


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def client(port: int, login: Credentials | None = None) -> RegistryClient:
    return RegistryClient(names.parse(f"{HOST}:{port}/camera:1"), login, insecure=True)


def test_a_registry_with_a_token_server_is_told_who_we_are_there_and_not_itself(
    tmp_path: Path,
) -> None:
    tokens = TokenServer()
    bundle = tmp_path / "tokens.pem"
    bundle.write_bytes(tokens.certificate.public_bytes(Encoding.PEM))
    with (
        answering(tokens) as port,
        imageregistry.serving(
            tmp_path,
            auth={
                "token": {
                    "realm": f"http://{HOST}:{port}/token",
                    "service": "images",
                    "issuer": "tokens",
                    "rootcertbundle": str(bundle),
                }
            },
        ) as registry,
        contextlib.closing(client(registry.port, KNOWN)) as ours,
        contextlib.closing(client(registry.port, Credentials("carrier", "wrong"))) as wrong,
        contextlib.closing(client(registry.port)) as nobody,
    ):
        with pytest.raises(Exception, match="has none: manifest unknown"):
            ours.document("1")
        with pytest.raises(Exception, match="has none: manifest unknown"):
            ours.document("2")
        assert tokens.asked == 1, "a token is used again"
        with pytest.raises(DeniedError, match="refuses the login of carrier"):
            wrong.document("1")
        with pytest.raises(DeniedError, match="lets in only who logs in"):
            nobody.document("1")


def test_bytes_are_read_where_a_registry_sends_us_without_telling_who_we_are() -> None:
    seen: list[dict[str, str]] = []

    def store(_path: str, headers: dict[str, str]) -> Answer:
        seen.append(headers)
        return 206, {"Content-Range": "bytes 2-5/9"}, b"cdef"

    with answering(store) as other:

        def registry(_path: str, headers: dict[str, str]) -> Answer:
            if "Authorization" not in headers:
                return 401, {"WWW-Authenticate": 'Basic realm="images"'}, b""
            return 307, {"Location": f"http://{HOST}:{other}/bytes?signed=yes"}, b""

        with answering(registry) as port, contextlib.closing(client(port, KNOWN)) as ours:
            assert b"".join(ours.blob("sha256:" + "a" * 64, 2, 6)) == b"cdef"

    assert [each.get("Range") for each in seen] == ["bytes=2-5"]
    assert "Authorization" not in seen[0]


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ((307, {"Location": "ftp://images.example/"}, b""), ImageAnswerError),
        ((307, {"Location": "/again"}, b""), ImageAnswerError),
        ((200, {}, b"abcdefghi"), NoRangesError),
        ((206, {"Content-Range": "bytes 0-3/9"}, b"abcd"), ImageAnswerError),
        ((418, {}, b""), ImageAnswerError),
    ],
)
def test_a_registry_that_sends_us_astray_is_not_followed(
    answer: Answer, wrong: type[Exception]
) -> None:
    with (
        answering(lambda _path, _headers: answer) as port,
        contextlib.closing(client(port)) as ours,
        pytest.raises(wrong),
    ):
        list(ours.blob("sha256:" + "a" * 64, 2, 6))


@pytest.mark.parametrize("url", ["http://images.example/", "https://a:b@images.example/", "//x"])
def test_only_https_is_spoken_to_a_registry_that_nobody_calls_insecure(url: str) -> None:
    ours = lines.Lines("images.example", insecure=False, timeout_s=1.0)

    with pytest.raises(ImageAnswerError):
        ours.get(url, {})
