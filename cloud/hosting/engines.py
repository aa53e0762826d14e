"""Which engine a name of the settings means."""

from cloud.settings import Settings
from runtime.containers.specs import Address
from runtime.errors import InvalidError


def address(settings: Settings, name: str | None) -> Address:
    """Return the address of an engine of `docker_hosts`; None: the default one."""
    engines = settings.docker_engines
    if name is not None and name not in engines:
        known = ", ".join(sorted(engines)) or "none"
        raise InvalidError("docker_hosts", name, f"name one of these: {known}")
    url = settings.docker_host if name is None else engines[name]
    if settings.docker_tls is None:
        return Address(url)
    ca, certificate, key = (
        str(settings.docker_tls / each) for each in ("ca.pem", "cert.pem", "key.pem")
    )
    return Address(url, ca, certificate, key)
