"""What the doctor sees of the way to the registry: identity, certificates, names, TCP, TLS, clock.

Each step is tried only if the one before it worked, so that the first thing that fails is told and
not all that follows from it. No step may take longer than STEP_S, so that it ends offline too.
"""

import email.utils
import http.client
import queue
import socket
import ssl
import threading
import time
from pathlib import Path

from edge_agent import enrol
from edge_agent.doctor.findings import Finding, broken, ok, warning
from edge_agent.enrol import Identity
from runtime import clock, tls
from runtime.errors import InvalidError, LinkError

STEP_S = 5.0
SKEW_S = 300.0
"""By which the clock may differ from the registry's."""
DAY_S = 86_400.0
WARN_BEFORE_S = 30 * DAY_S


def look(data: Path, now: float) -> list[Finding]:
    """Return all findings about this device's identity and its way to the registry."""
    try:
        identity = enrol.load(data)
    except InvalidError as error:
        return [broken("identity", str(error), "enrol this device again with --force")]
    if identity is None:
        do = "make a token (`packhorse devices token`), then `packhorse-agent enrol`"
        return [warning("identity", f"{data} is not enrolled; models come by `apply` alone", do)]
    found = [ok("identity", f"{identity.device} of {identity.registry_url}")]
    certificates = certificate(data, identity, now)
    found += certificates
    directory = data / "identity"
    try:
        ca_pem = (directory / "ca.pem").read_text("ascii")
        mine = tls.client_context(
            ca_pem=ca_pem,
            cert_file=directory / "device.pem",
            key_file=directory / "device.key",
        )
    except (OSError, ValueError, LinkError) as error:
        do = "enrol this device again with --force"
        return [*found, broken("certificate", f"it cannot be used: {error}", do)]
    found += reach("broker", identity.broker_host, identity.broker_port, mine)
    return [*found, *registry(identity, ca_pem, now)]


def certificate(data: Path, identity: Identity, now: float) -> list[Finding]:
    """Say how long the certificate is good for, and whether the key is its own."""
    left_s = identity.certificate_not_after - now
    day = time.strftime("%Y-%m-%d", time.gmtime(identity.certificate_not_after))
    do = "enrol this device again with a new token and --force"
    found: list[Finding] = []
    if clock.plausible(now) and left_s < 0:
        found.append(broken("certificate", f"expired {day}; inference goes on", do))
    elif clock.plausible(now) and left_s < WARN_BEFORE_S:
        found.append(warning("certificate", f"expires {day}", do))
    else:
        found.append(ok("certificate", f"good until {day}"))
    key = data / "identity" / "device.key"
    if key.exists() and key.stat().st_mode & 0o077:
        found.append(warning("certificate", f"{key} can be read by others", f"chmod 600 {key}"))
    return found


def reach(area: str, host: str, port: int, context: ssl.SSLContext) -> list[Finding]:
    """Say how far one gets towards a host: its name, a connection, an agreement on TLS."""
    try:
        addresses = resolve(host, port)
    except OSError as error:
        do = "see the device's network and its DNS server (resolvectl status, /etc/resolv.conf)"
        return [broken(area, f"{host} has no address: {error}", do)]
    place = f"{host}:{port}"
    try:
        plain = socket.create_connection((host, port), STEP_S)
    except OSError as error:
        do = "see whether it runs, and whether a firewall lets the device out to this port"
        return [broken(area, f"{place} ({addresses[0]}) takes no connection: {error}", do)]
    with plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as secured:
                return [ok(area, f"{place} ({addresses[0]}), {secured.version()}")]
        except (OSError, ValueError) as error:
            do = "see whether this is the registry that the device was enrolled at, and the clock"
            return [broken(area, f"{place}: no TLS with it: {error}", do)]


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name; raise OSError if there is none within STEP_S."""
    answer: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.put([str(each[4][0]) for each in found])
        except (OSError, UnicodeError) as error:
            answer.put(error if isinstance(error, OSError) else OSError(str(error)))

    # In a thread: a name server that does not answer may take longer than anybody waits.
    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answer.get(timeout=STEP_S)
    except queue.Empty:
        raise TimeoutError(f"no name server answered within {STEP_S:g} s") from None
    if isinstance(found, OSError):
        raise found
    return found


def registry(identity: Identity, ca_pem: str, now: float) -> list[Finding]:
    """Say whether the registry is reached, and what its clock says."""
    parts = tls.parse_url(identity.registry_url)
    host, port = parts.hostname or "", parts.port or 443
    context = tls.client_context(ca_pem=ca_pem)
    found = reach("registry", host, port, context) if parts.scheme == "https" else []
    if any(each.do for each in found):
        return found
    connection = (
        http.client.HTTPSConnection(host, port, timeout=STEP_S, context=context)
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port or 80, timeout=STEP_S)
    )
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        said = answer.getheader("Date", "")
    except (OSError, http.client.HTTPException) as error:
        do = "see the registry's log; a proxy in between may be in the way"
        return [*found, broken("registry", f"it does not answer: {error}", do)]
    finally:
        connection.close()
    return [*found, *skew(said, now)]


def skew(date: str, now: float) -> list[Finding]:
    """Say how much the clock differs from a Date header."""
    try:
        theirs = email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return []
    off_s = now - theirs
    if abs(off_s) <= SKEW_S:
        return [ok("clock", f"{off_s:+.0f} s from the registry's")]
    do = "enable NTP (timedatectl set-ntp true); records carry the device's time"
    return [warning("clock", f"{off_s:+.0f} s from the registry's", do)]
