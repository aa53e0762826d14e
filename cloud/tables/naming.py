"""Names of constraints, and the numbers of rows: set before the first table is defined."""

from sqlalchemy import BigInteger, Integer
from sqlmodel import SQLModel

# Named constraints can be altered by later migrations, on SQLite too.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

# SQLite numbers rows by itself only in columns that are called INTEGER (which has 64 bits there).
ROW_ID = BigInteger().with_variant(Integer(), "sqlite")
WIDE = ROW_ID
"""For whole numbers of 64 bits that number no rows."""
