"""Sharing downloads with neighbours, as a whole: the shelf, the giver, and how to ask others."""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent import pace
from edge_agent.lan.shelf import Shelf
from runtime.errors import LinkError

if TYPE_CHECKING:  # costs memory: loaded only where sharing is on
    from edge_agent.lan.giver import Giver

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Papers:
    """What a device shows to its neighbours."""

    ca_file: Path
    cert_file: Path
    key_file: Path

    def for_giving(self) -> ssl.SSLContext:
        """Return a context for members of this fleet alone; raise LinkError if a file is bad."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._shown(context)

    def for_asking(self) -> ssl.SSLContext:
        """Return a context that shows who we are and believes nobody: parts are compared."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return self._shown(context)

    def _shown(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cadata=self.ca_file.read_text("ascii"))
            context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ValueError) as error:
            raise LinkError(f"identity: cannot be used: {error}: enrol again") from error
        return context


class Sharing:
    """On while it runs; a port or a certificate that cannot be had turns it off, and is logged."""

    def __init__(
        self,
        directory: Path,
        papers: Papers,
        *,
        host: str = "",
        port: int = 0,
        cap_bytes: int = 256 << 20,
        kbps: int = 0,
        registry: str = "",
    ) -> None:
        """Listen on `host`, or everywhere: our address is then the one towards `registry`."""
        self.shelf = Shelf(directory, cap_bytes=cap_bytes)
        self.papers = papers
        self._host, self._port, self._kbps, self._registry = host, port, kbps, registry
        self._giver: Giver | None = None

    def start(self) -> None:
        """Begin to give."""
        from edge_agent.lan.giver import Giver  # noqa: PLC0415 - see above

        try:
            giver = Giver(
                self.shelf,
                self.papers.for_giving(),
                host=self._host,
                port=self._port,
                pace=pace.of_kbps(self._kbps),
            )
        except (OSError, LinkError) as error:
            log.warning("not shared with neighbours", extra={"reason": str(error)})
            return
        giver.start()
        self._giver = giver
        log.info("sharing with neighbours", extra={"port": giver.port})

    def stop(self) -> None:
        """End."""
        if self._giver is not None:
            self._giver.stop()
            self._giver = None

    def address(self) -> str:
        """Return where neighbours reach this device now; "": nowhere."""
        if self._giver is None:
            return ""
        from edge_agent.lan import giver  # noqa: PLC0415 - loaded by now

        try:
            host = self._host or giver.address_towards(self._registry)
        except OSError:
            return ""
        return f"[{host}]:{self._giver.port}" if ":" in host else f"{host}:{self._giver.port}"
