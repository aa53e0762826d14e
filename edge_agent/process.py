"""`packhorse-agent run`: one agent, from its settings to its end."""

import json
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from edge_agent import enrol, settings
from edge_agent.agent import Agent
from edge_agent.assembly import Place
from edge_agent.enrol import Identity
from edge_agent.errors import NotEnrolledError
from edge_agent.host import slots
from edge_agent.host.proving import Proving
from edge_agent.journal import Journal
from edge_agent.nouplink import NoUplink
from edge_agent.servicemanager import Notifier
from edge_agent.settings import AgentSettings
from edge_agent.uplink import MqttUplink
from runtime import datalock, logs, topics
from runtime.errors import InvalidError
from runtime.link import LinkSettings
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

NOBODY = DeviceId("not-enrolled")


def run(data: Path, config: Path | None) -> None:
    """Run until SIGTERM or SIGINT; at SIGHUP, or when asked from afar, begin as a fresh process.

    Raises InvalidError for settings that are wrong, NotEnrolledError, InUseError.
    """
    if config is not None and not config.exists():
        raise InvalidError("config", str(config), "name a file that exists")
    chosen = settings.load(config or data / "agent.toml", os.environ)
    logs.set_up(form=chosen.log_format, level=chosen.log_level)
    with datalock.held(data, mode=0o750):
        agent = make(data.absolute(), chosen)

        def stop(_number: int, _frame: FrameType | None) -> None:
            agent.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        signal.signal(signal.SIGHUP, lambda _number, _frame: agent.begin_again())
        agent.run()
    if agent.begins_again:
        _begin_again()


def _begin_again() -> None:
    """Replace this process by a new one with the same command line, number and parent.

    The launcher's, if that has started this one: it knows which version is to run.
    """
    log.info("agent begins again")
    logging.shutdown()
    launched = os.environ.get(slots.LAUNCH)
    argv = json.loads(launched) if launched else [sys.executable, *sys.orig_argv[1:]]
    os.execv(argv[0], argv)  # noqa: S606 - our own


def make(data: Path, chosen: AgentSettings) -> Agent:
    """Return the agent of this directory; raise NotEnrolledError if it has nothing to do."""
    try:
        identity, damage = enrol.load(data), ""
    except InvalidError as error:
        identity, damage = None, str(error)
    if identity is not None:
        return _enrolled(data, chosen, identity)
    saved, _ = Journal(data).read()
    if not damage and not saved.modules:
        raise NotEnrolledError(data)
    # What ran before runs on: only the registry is out of reach.
    why = f"identity: {damage or 'identity.json is missing'}: enrol this device again"
    log.error("no identity, the registry is out of reach", extra={"reason": why})
    device = DeviceId(saved.desired.device) if saved.desired else NOBODY
    notifier, proving = Notifier.of(os.environ), Proving.of(os.environ)
    place, troubles = Place(data, device), {"identity": why, **proving.troubles()}
    return Agent(
        place, chosen, NoUplink(why), troubles=troubles, notifier=notifier, proving=proving
    )


def _enrolled(data: Path, chosen: AgentSettings, identity: Identity) -> Agent:
    device = topics.device_id(identity.device)
    directory = data / "identity"
    link = LinkSettings(
        host=identity.broker_host,
        port=identity.broker_port,
        client_id=device,
        ca_file=directory / "ca.pem",
        cert_file=directory / "device.pem",
        key_file=directory / "device.key",
        keepalive_s=chosen.keepalive_s,
    )
    place = Place(
        data,
        device,
        base_url=identity.registry_url,
        ca_file=directory / "ca.pem",
        certificate_not_after=identity.certificate_not_after,
    )
    uplink = MqttUplink(
        link,
        device,
        heartbeat_s=chosen.heartbeat_s,
        reconnect_most_s=chosen.reconnect_most_s,
    )
    notifier, proving = Notifier.of(os.environ), Proving.of(os.environ)
    troubles = proving.troubles()
    return Agent(place, chosen, uplink, troubles=troubles, notifier=notifier, proving=proving)
