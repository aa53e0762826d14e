"""A version's check on a service, asked by the registry itself.

    golden inputs ──► Target.ask ──► a gateway (through the API server, on Kubernetes) ──► revision
    golden outputs ◄── compared ◄────────────────────────────────────────────────────────────┘

So it works from wherever the registry can work on the place, though no client could reach the
service from there. What is read is bounded, and so is how many may be under way.
"""

from collections.abc import Sequence
from pathlib import Path

from sqlmodel import Session

from cloud import tables
from cloud.errors import BusyError, ConflictError
from cloud.hosting.errors import TargetError
from cloud.hosting.targets import Question
from cloud.registry.serving import keys, rows
from cloud.services import Services
from cloud.verification import asking, golden
from cloud.verification.asking import Ask
from cloud.verification.findings import Finding
from cloud.verification.golden import Version
from runtime import files
from runtime.bundle.index import MAX_INDEX_BYTES, FileEntry
from runtime.digests import Digest
from runtime.errors import InvalidError, LinkError

MAX_CHECK_BYTES = 64 << 20
"""Of one file of a check."""


def verify(
    services: Services, name: str, revision: str | None, *, timeout_s: float
) -> list[tuple[str, Finding]]:
    """Return (revision, finding) of one revision, or of all that run.

    Raises ConflictError if it does not run, InvalidError if its version has no check, BusyError if
    many are being verified already.
    """
    if not services.verifying.acquire(blocking=False):
        raise BusyError("verify: others are being verified just now: try again")
    try:
        with services.reading() as session:
            row = rows.get(session, name)
            chosen = _chosen(session, row, revision)
            session.expunge_all()
        return [(f"r{each.number}", _one(services, row, each, timeout_s)) for each in chosen]
    finally:
        services.verifying.release()


def _chosen(
    session: Session, row: tables.Service, revision: str | None
) -> Sequence[tables.ServiceRevision]:
    wanted = rows.state(row).wanted
    if revision is None:
        return [each for each in rows.revisions(session, row) if each.number in wanted]
    found = rows.revision(session, row, rows.number(revision))
    if found.number not in wanted:
        raise ConflictError(f"{revision}: it has no replicas: see `packhorse services show`")
    return [found]


def _one(
    services: Services, row: tables.Service, revision: tables.ServiceRevision, timeout_s: float
) -> Finding:
    where = f"service {row.name} r{revision.number} ({row.kind})"
    of = Version(revision.model, revision.version, revision.bundle)
    content = services.blobs.bytes_of(Digest(of.bundle), limit_bytes=MAX_INDEX_BYTES)

    def bring(entry: FileEntry, target: Path) -> None:
        data = services.blobs.bytes_of(entry.sha256, limit_bytes=MAX_CHECK_BYTES)
        files.write_atomic(target, data)

    try:
        expected = golden.read(of, content, bring)
    except MemoryError as error:  # a header may promise arrays that no memory holds
        raise InvalidError("check", f"{of.model}:{of.number}", "give smaller arrays") from error
    return asking.verify(expected, _asker(services, row, revision.number, timeout_s), where)


def _asker(services: Services, row: tables.Service, number: int, timeout_s: float) -> Ask:
    key = keys.own(services.sealer, row.name)

    def ask(path: str, body: bytes) -> tuple[int, bytes]:
        question = Question(path, body, {"X-API-Key": key}, timeout_s)
        try:
            return services.targets.of(rows.place(row)).ask(row.name, number, question)
        except TargetError as error:
            raise LinkError(str(error)) from error

    return ask
