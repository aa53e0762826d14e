"""The one door to the `docker` package: a connection to an engine, and its errors made ours.

    Address ── connect() ──► Client ── .api      answers, each within the time-out
                                    └─ .streams  logs, events, builds: no time-out while they flow

Docker's own engine and Podman's speak the same API. An engine behind ssh is reached through a
socket that OpenSSH forwards, so keys, agents and known_hosts are those of the machine. The package
costs 22 MB and 0.2 s, so it is imported at the first connection.
"""

import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from runtime.containers import tunnel
from runtime.containers.errors import AbsentError, EngineRefusedError, EngineUnreachableError
from runtime.containers.specs import Address, Credentials
from runtime.errors import InvalidError
from runtime.imageregistry.names import DOCKER_HUB

if TYPE_CHECKING:
    from docker import APIClient

DEFAULT_URL = "unix:///var/run/docker.sock"
_CONNECT_S = 10.0
_ABSENT, _CONFLICT, _SERVER_FAILED = 404, 409, 500
_IMPROPER, _GONE = "container state improper", "no such container"
"""So Podman says what Docker says by a status."""


class Client:
    """An open connection; safe for several threads."""

    def __init__(self, address: Address) -> None:
        """Connect; raises EngineUnreachableError, or InvalidError naming what is wrong with it."""
        self.url = address.url or DEFAULT_URL
        self._tunnel: tunnel.Tunnel | None = None
        url = self.url
        if url.startswith("ssh://"):
            self._tunnel = tunnel.Tunnel(url)
            url = self._tunnel.url
        try:
            with self._naming(url):
                self.api = _client(url, address, address.timeout_s)
                self.streams = _client(url, address, None, version=str(self.api.api_version))
        except BaseException:
            if self._tunnel is not None:
                self._tunnel.close()
            raise

    @contextlib.contextmanager
    def _naming(self, url: str) -> Iterator[None]:
        """Have an error name the engine that was asked for, not our end of a tunnel."""
        try:
            yield
        except EngineUnreachableError as error:
            raise EngineUnreachableError(str(error).replace(url, self.url)) from error

    def close(self) -> None:
        """Let go of every connection; what streams ends."""
        self.api.close()
        self.streams.close()
        if self._tunnel is not None:
            self._tunnel.close()


@contextlib.contextmanager
def explaining(what: str) -> Iterator[None]:
    """Turn what the docker package raises into EngineErrors that say `what` was tried."""
    import docker.errors  # noqa: PLC0415 - see above
    import requests  # noqa: PLC0415 - it comes with docker, whose errors it raises
    import urllib3.exceptions  # noqa: PLC0415 - as above

    try:
        yield
    except docker.errors.APIError as error:
        # An answer that breaks off has no response.
        status = getattr(error.response, "status_code", _SERVER_FAILED)
        said = " ".join(str(error.explanation or error).split())
        if said.endswith(_IMPROPER):
            status = _CONFLICT
        if said.endswith(_GONE):
            status = _ABSENT
        kind = AbsentError if status == _ABSENT else EngineRefusedError
        raise kind(what, status=status, said=said) from error
    except docker.errors.DockerException as error:
        raise EngineUnreachableError(f"{what}: {_innermost(error)}") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise EngineUnreachableError(f"{what}: {_innermost(error)}") from error


def configured_login(host: str) -> Credentials | None:
    """Return who Docker's configuration of this user says that we are to an image registry.

    None: nobody, or nobody whom we can be: an identity token is the engine's own matter.
    """
    from docker import auth  # noqa: PLC0415 - see above

    with explaining(f"ask Docker's configuration about {host}"):
        # Docker Hub has another name there, which the package knows.
        found = auth.load_config().resolve_authconfig(None if host == DOCKER_HUB else host) or {}
    name, password = found.get("username") or found.get("Username"), found.get("password")
    password = password or found.get("Password")
    return Credentials(str(name), str(password)) if name and password else None


def _client(
    url: str, address: Address, timeout_s: float | None, version: str = "auto"
) -> "APIClient":
    import docker  # noqa: PLC0415 - see above

    class OwnTrust(docker.APIClient):
        """Trusts the CA that was named: requests would prefer that of REQUESTS_CA_BUNDLE."""

        trust_env = property(lambda _self: False, lambda _self, _value: None)

    _require_known(url, address)
    _require_listener(url)
    options: Any = {"base_url": url, "version": version, "timeout": timeout_s}
    with explaining(f"connect to the engine at {url}"):
        if url.startswith("tcp://"):
            pair: Any = (address.certificate, address.key) if address.certificate else None
            options["tls"] = docker.tls.TLSConfig(client_cert=pair, ca_cert=address.ca, verify=True)
        return OwnTrust(**options)


def _require_known(url: str, address: Address) -> None:
    scheme = url.partition("://")[0]
    if scheme == "tcp" and address.ca is None:
        fix = "an engine on TCP without TLS is anybody's: give its CA (and a client certificate)"
        raise InvalidError("docker host", url, fix)
    if (address.certificate is None) != (address.key is None):
        raise InvalidError("docker host", url, "give a certificate and its key, or neither")
    if scheme not in {"unix", "tcp", "npipe"}:
        raise InvalidError("docker host", url, "use unix:///PATH, tcp://HOST:PORT or ssh://HOST")


def _require_listener(url: str) -> None:
    """Raise EngineUnreachableError unless somebody listens: docker would leave a socket open."""
    if not url.startswith("unix://"):
        return
    with explaining(f"connect to the engine at {url}"), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_S)
        probe.connect(url.removeprefix("unix://"))


def _innermost(error: BaseException) -> str:
    """Return the reason at the bottom: libraries wrap "no such file" in three layers."""
    seen: BaseException = error
    while True:
        inner = next((each for each in seen.args if isinstance(each, BaseException)), None)
        following = inner or seen.__cause__ or seen.__context__
        if following is None:
            break
        seen = following
    match seen:
        case FileNotFoundError():
            return "there is no such socket: start the engine, or name another host"
        case PermissionError():
            return "permission denied: join the group `docker`, or use a rootless engine"
        case ConnectionRefusedError():
            return "nothing listens there: start the engine"
        case TimeoutError():
            return "it did not answer in time"
    return " ".join(str(seen).split()) or type(seen).__name__
