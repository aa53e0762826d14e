"""Rows of any table as bytes that any database takes: a backup of one is restored into another.

Values are what Python holds between SQLAlchemy and the program: JSON columns are plain values,
moments floats, and so on. One MessagePack array for each row, columns in the order of `columns`.
"""

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import msgspec
from sqlalchemy import Connection, Integer, Table, func, inspect, select, text
from sqlmodel import SQLModel

import cloud.tables  # noqa: F401 - fills SQLModel.metadata
from cloud import database
from runtime.errors import InvalidError

FETCHED = 1000
"""Rows at a time, both ways."""
MAX_ROW_BYTES = 64 << 20
_LENGTH = 4
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(type=list[Any]).decode


def tables() -> tuple[Table, ...]:
    """Return all tables, each behind those that it refers to."""
    return tuple(SQLModel.metadata.sorted_tables)


def columns(table: Table) -> tuple[str, ...]:
    """Return the names of a table's columns, in order."""
    return tuple(str(column.name) for column in table.columns)


def write(connection: Connection, table: Table, stream: BinaryIO) -> int:
    """Write all rows, by primary key; return how many."""
    query = select(table).order_by(*table.primary_key.columns)
    streaming = connection.execution_options(stream_results=True, yield_per=FETCHED)
    count = 0
    for row in streaming.execute(query):
        encoded = _encode(tuple(row))
        stream.write(len(encoded).to_bytes(_LENGTH, "big") + encoded)
        count += 1
    return count


def read(stream: BinaryIO) -> Iterator[list[Any]]:
    """Yield the rows that `write` wrote; raise InvalidError if they are cut off or too long."""
    while head := stream.read(_LENGTH):
        size = int.from_bytes(head, "big")
        encoded = stream.read(size) if size <= MAX_ROW_BYTES else b""
        if len(head) < _LENGTH or len(encoded) < size:
            raise InvalidError("rows", f"{size} bytes", "they are cut off, or too long")
        try:
            yield _decode(encoded)
        except msgspec.DecodeError as error:
            raise InvalidError("rows", encoded[:40], str(error)) from error


def insert(
    connection: Connection, table: Table, names: Iterable[str], rows: Iterable[list[Any]]
) -> int:
    """Insert rows of these columns; return how many. Raises InvalidError for unknown columns."""
    known = list(names)
    if unknown := sorted(set(known) - set(columns(table))):
        raise InvalidError(f"{table.name}.columns", unknown, "restore it with the newer Packhorse")
    statement, count = table.insert(), 0
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append(dict(zip(known, row, strict=True)))
        if len(group) == FETCHED:
            connection.execute(statement, group)
            count, group = count + len(group), []
    if group:
        connection.execute(statement, group)
    return count + len(group)


def continue_numbers(connection: Connection) -> None:
    """Have PostgreSQL number new rows above those that are there; SQLite does so by itself."""
    if connection.dialect.name != database.POSTGRESQL:
        return
    present = set(inspect(connection).get_table_names())
    for table in tables():
        for column in table.primary_key.columns if table.name in present else ():
            if isinstance(column.type, Integer) and _is_numbered(connection, table, column.name):
                highest = connection.execute(select(func.max(column))).scalar_one()
                set_next = text("SELECT setval(pg_get_serial_sequence(:table, :column), :next, :d)")
                values = {"table": table.name, "column": column.name}
                connection.execute(
                    set_next, {**values, "next": highest or 1, "d": highest is not None}
                )


def _is_numbered(connection: Connection, table: Table, column: str) -> bool:
    query = text("SELECT pg_get_serial_sequence(:table, :column)")
    found = connection.execute(query, {"table": table.name, "column": column}).scalar_one()
    return found is not None
