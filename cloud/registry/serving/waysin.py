"""How clients come to a service: ports, addresses, routes."""

from collections.abc import Mapping

import msgspec
from sqlmodel import Session, col, select

from cloud import tables
from cloud.registry.serving import rows
from cloud.registry.serving.specs import ServiceSpec
from runtime.errors import InvalidError


def other(row: tables.Service, spec: ServiceSpec) -> list[str]:
    """Return what of them is other than a spec says, by name."""
    pairs: Mapping[str, tuple[object, object]] = {
        "gateway": (rows.gateway(row), spec.gateway),
        "port": (row.port, spec.port),
        "bind": (row.bind, spec.bind),
        "route": (rows.route(row), spec.route),
    }
    return [name for name, (before, after) in pairs.items() if before != after]


def take(row: tables.Service, spec: ServiceSpec) -> None:
    """Have them be as a spec says."""
    row.gateway = msgspec.to_builtins(spec.gateway)
    row.port, row.bind = spec.port, spec.bind
    row.route = None if spec.route is None else msgspec.to_builtins(spec.route)


def require_free_port(session: Session, spec: ServiceSpec) -> None:
    """Raise ConflictError if another service has the port there."""
    if spec.port is None:
        return
    row = tables.Service
    query = select(row).where(
        col(row.removed_at).is_(None), row.port == spec.port, row.name != spec.name
    )
    for other in session.exec(query):
        if rows.place(other) == spec.place:
            raise InvalidError("port", spec.port, f"service {other.name} has it: give another")
