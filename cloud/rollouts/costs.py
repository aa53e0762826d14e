"""What a module of a plan costs its devices in bytes, and which of them it does not fit."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlmodel import Session, col, select

from cloud import tables
from cloud.deltas import ledger
from cloud.deltas.ledger import Entry, State
from cloud.registry import devices
from cloud.registry.downloads import Download
from cloud.storage.blobs import Blobs
from cloud.storage.encodings import Recipe
from runtime import messages
from runtime.bundle import index, variants
from runtime.bundle.index import Index
from runtime.digests import Digest

MIB = 1 << 20
METERED = "metered"
NO_TERMS = Download()
UNENCODED, DELTA = "not encoded yet", "delta"


@dataclass
class Cost:
    """Summed over all devices."""

    bytes_by_encoding: Counter[str] = field(default_factory=Counter)
    fetching: int = 0
    disk_bytes: int = 0
    bytes_of: Counter[str] = field(default_factory=Counter)
    """What each device has to fetch."""
    misfits: list[tuple[str, str, str]] = field(default_factory=list)
    """Kind of obstacle, device, sentence."""


class Costs:
    """Of one bundle."""

    def __init__(self, session: Session, blobs: Blobs, bundle: str) -> None:
        self._session = session
        self.bundle = bundle
        content = blobs.bytes_of(Digest(bundle), limit_bytes=index.MAX_INDEX_BYTES)
        self.index = index.decode(content)
        digests = {entry.sha256 for entry in self.index.files}
        self._entries: Mapping[Recipe, Entry] = ledger.entries(session, digests)
        self._held: dict[str, frozenset[str]] = {}

    def of(self, module: str, found: Iterable[tables.Device], terms: Download = NO_TERMS) -> Cost:
        """Return what these devices have to fetch and to keep, on such terms."""
        cost = Cost()
        for device in found:
            seen = variants.seen_by(self.index, device.facts)
            self._fit(cost, seen, device)
            running = self._running(device)
            size = sum(entry.size for entry in seen.files)
            cost.disk_bytes = max(cost.disk_bytes, size)
            if self.bundle in running:
                continue
            held = frozenset().union(*(self._blobs_of(each) for each in running))
            missing = [entry for entry in seen.files if entry.sha256 not in held]
            cost.fetching += bool(missing)
            for entry in missing:
                encoding, count = self._smallest(entry.sha256, entry.size, held)
                cost.bytes_by_encoding[encoding] += count
                cost.bytes_of[device.id] += count
            self._allowed(cost, device, module, terms)
            self._room(cost, device, module, sum(entry.size for entry in missing))
        return cost

    def _fit(self, cost: Cost, seen: Index, device: tables.Device) -> None:
        needed = None if seen.resources is None else seen.resources.memory_mb
        has = device.facts.get("memory_mb", "")
        if needed is not None and has.isdigit() and 0 < int(has) < needed:
            text = f"needs {needed} MiB of memory; the device has {has}"
            cost.misfits.append(("variant", device.id, text))
        usable = device.facts.get(variants.PROVIDERS, "")
        wanted = tuple(seen.providers or ())
        if wanted and usable and not set(wanted) & set(usable.split(",")):
            text = f"its variant runs on {', '.join(wanted)}; the device has {usable}"
            cost.misfits.append(("variant", device.id, text))

    def _room(self, cost: Cost, device: tables.Device, module: str, count: int) -> None:
        report = devices.reported(device)
        free = None if report is None else report.vitals.get("disk_free_mb")
        if free is not None and free * MIB < count:
            text = f"{module} takes {count} bytes; {free:.0f} MiB of disk are free"
            cost.misfits.append(("disk", device.id, text))

    def _allowed(self, cost: Cost, device: tables.Device, module: str, terms: Download) -> None:
        count, budget = cost.bytes_of[device.id], terms.budget_bytes
        if budget is not None and count > budget:
            text = f"{module} takes {count} bytes; its download may take {budget}"
            cost.misfits.append(("bytes", device.id, text))
        metered = device.facts.get(METERED) == "yes"
        if count and metered and terms.metered != messages.METERED_ALLOW:
            text = f"its link is metered, and {module} does not say `metered: allow`: it waits"
            cost.misfits.append(("metered", device.id, text))

    def _running(self, device: tables.Device) -> set[str]:
        report = devices.reported(device)
        modules = () if report is None else report.modules
        return {each.running.bundle for each in modules if each.running is not None}

    def _blobs_of(self, bundle: str) -> frozenset[str]:
        if bundle not in self._held:
            row = tables.BundleBlob
            query = select(row.blob).where(col(row.bundle) == bundle)
            self._held[bundle] = frozenset(self._session.exec(query))
        return self._held[bundle]

    def _smallest(self, blob: Digest, size: int, held: frozenset[str]) -> tuple[str, int]:
        """Return the smallest encoding that is ready and serves, and its bytes."""
        ready = [
            (entry.size_bytes, DELTA if recipe.base else recipe.encoding)
            for recipe, entry in self._entries.items()
            if recipe.blob == blob
            and entry.state is State.READY
            and entry.size_bytes > 0
            and (recipe.base is None or recipe.base in held)
        ]
        count, encoding = min(ready, default=(size, UNENCODED))
        return encoding, count
