"""Versions that an older Packhorse registered are made to be found: it had no search.

Their tensors are in no table, only in their indexes, which a migration cannot read. Run at each
start; once all are found it costs one query.
"""

import logging

from sqlmodel import Session, col, select

from cloud import tables
from cloud.registry import catalogue
from cloud.services import Services
from runtime.bundle import index as bundle_index
from runtime.bundle.index import MAX_INDEX_BYTES
from runtime.digests import Digest
from runtime.errors import PackhorseError

log = logging.getLogger(__name__)

BATCH = 200


def run(services: Services) -> int:
    """Return how many versions can be found now that could not be before."""
    after, count = ("", 0), 0
    while True:
        with services.reading() as session:
            rows = _missing(session, after)
        if not rows:
            return count
        after = (rows[-1].model, rows[-1].number)
        count += sum(_enter(services, row) for row in rows)


def _missing(session: Session, after: tuple[str, int]) -> list[tables.Version]:
    row, entry = tables.Version, tables.SearchEntry
    same = (col(entry.model) == col(row.model)) & (col(entry.version) == col(row.number))
    query = (
        select(row)
        .join(entry, same, isouter=True)
        .where(col(entry.id).is_(None))
        .where(
            (col(row.model) > after[0])
            | ((col(row.model) == after[0]) & (col(row.number) > after[1]))
        )
    )
    found = session.exec(query.order_by(col(row.model), col(row.number)).limit(BATCH)).all()
    for each in found:
        session.expunge(each)
    return list(found)


def _enter(services: Services, row: tables.Version) -> bool:
    what = {"model": row.model, "version": row.number}
    try:
        content = services.blobs.bytes_of(Digest(row.bundle), limit_bytes=MAX_INDEX_BYTES)
        index = bundle_index.decode(content)
    except PackhorseError as error:
        log.warning("a version cannot be searched for", extra={**what, "why": str(error)})
        return False
    with services.transaction() as session:
        present = session.get(tables.Version, (row.model, row.number))
        if present is None:
            return False
        size = sum(entry.size for entry in index.files)
        catalogue.enter(session, present, index, size_bytes=size)
        alias = tables.Alias
        for each in session.exec(
            select(alias).where(alias.model == row.model, alias.version == row.number)
        ):
            catalogue.name(session, row.model, each.name, row.number)
        traced = session.get(tables.Lineage, (row.model, row.number))
        if traced is not None:
            catalogue.trace(session, traced)
    return True
