"""Which container engine a place means, by the registry's settings."""

from cloud.hosting.errors import RefusedError, UnreachableError
from cloud.settings import Settings
from runtime.containers.engine import Engine
from runtime.containers.errors import EngineUnreachableError
from runtime.containers.specs import Address
from runtime.errors import InvalidError

_TLS = {"ca": "ca.pem", "certificate": "cert.pem", "key": "key.pem"}


def address(settings: Settings, name: str | None) -> Address:
    """Return where an engine is; raise RefusedError for a name that the settings do not have.

    None: the default engine.
    """
    url = settings.docker_host
    if name is not None:
        url = settings.docker_engines.get(name)
        if url is None:
            known = ", ".join(settings.docker_engines) or "none"
            raise RefusedError(f"docker: no host {name} in docker_hosts, which has {known}")
    tls = settings.docker_tls
    if tls is None or url is None or not url.startswith("tcp://"):
        return Address(url)
    return Address(url, **{part: str(tls / file) for part, file in _TLS.items()})  # type: ignore[arg-type] # three paths by name


def connect(settings: Settings, name: str | None) -> Engine:
    """Return an engine; raise UnreachableError if it does not answer, RefusedError if it cannot."""
    try:
        return Engine(address(settings, name))
    except EngineUnreachableError as error:
        raise UnreachableError(str(error)) from error
    except InvalidError as error:
        raise RefusedError(str(error)) from error
