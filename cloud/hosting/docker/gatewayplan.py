"""What is to be done about a service's gateways: pure.

    holder ── keeps the network and publishes the port, for as long as the port is the same
      ├─ its own gateway       until another making is wished; then it holds still (SIGUSR1)
      └─ a gateway beside it   in the same network, on the same ports (SO_REUSEPORT)

So a gateway is replaced without a failed request: the new one starts beside the old one, and the
old one leaves when the new one is in force. Only another address on the same port needs the port
to be let go of first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cloud.hosting.docker import marks, specs
from cloud.hosting.docker.inventory import Inventory
from cloud.hosting.targets import Wish
from runtime.containers.specs import ContainerSeen


@dataclass(frozen=True)
class GatewayPlan:
    """What is to be done about gateways."""

    make_holder: bool = False
    """There is none that publishes what is wished."""
    make_beside: str | None = None
    """Id of the holder beside which another one is to start."""
    start: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    """Those whose network is gone, since the holder came up anew."""
    call: tuple[str, ...] = ()
    """Holders whose own gateway is to run again."""
    unpause: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    """What must go before a new holder can have the port: requests fail for that moment."""
    leave: tuple[str, ...] = ()
    """What leaves once another one is in force."""
    hold: tuple[str, ...] = ()
    """Holders whose own gateway leaves once another one is in force; they stay."""


def gateways(wish: Wish, there: Inventory) -> GatewayPlan:
    """Return what is to be done about gateways."""
    present = [each for each in there.gateways if each.id not in there.leaving]
    holders = [each for each in present if marks.holds(each)]
    right = [each for each in holders if publishes(wish, each) and each.state != "dead"]
    if not right:
        conflicting = [each for each in holders if _same_port(wish, each) or each.state == "dead"]
        first = _with_guests(conflicting, present)
        rest = [each.id for each in present if each.id not in first]
        return GatewayPlan(make_holder=True, first=tuple(first), leave=tuple(rest))
    holder = right[0]
    guests = [each for each in present if each.network_mode == f"container:{holder.id}"]
    strangers = [each for each in present if each is not holder and each not in guests]
    wished = specs.gateway_fingerprint(wish)
    chosen = [each for each in (holder, *guests) if each.labels.get(marks.SPEC) == wished]
    leaving = [each for each in guests if each not in chosen[:1]]
    stale = [each for each in guests if each.running and each.started_at < holder.started_at]
    return GatewayPlan(
        make_beside=None if chosen else holder.id,
        start=tuple(each.id for each in (holder, *guests) if each.state in {"exited", "created"}),
        restart=tuple(each.id for each in stale if holder.running),
        unpause=tuple(each.id for each in present if each.state == "paused"),
        call=(holder.id,) if chosen[:1] == [holder] and there.status(holder) is None else (),
        leave=tuple(each.id for each in (*leaving, *strangers)),
        hold=(holder.id,) if chosen[:1] != [holder] and there.status(holder) is not None else (),
    )


def publishes(wish: Wish, holder: ContainerSeen) -> bool:
    """Say whether a gateway publishes what is wished."""
    address, _, ports = holder.labels[marks.PORTS].partition(" ")
    http = ports.partition(" ")[0]
    return address == wish.bind and (wish.port is None or http == str(wish.port))


def _same_port(wish: Wish, holder: ContainerSeen) -> bool:
    """Say whether a gateway keeps a port that its successor is to have."""
    published = holder.labels[marks.PORTS].split()[1:]
    return wish.port is None or str(wish.port) in published


def _with_guests(holders: Sequence[ContainerSeen], present: Sequence[ContainerSeen]) -> list[str]:
    ids = [each.id for each in holders]
    guests = [each.id for each in present if each.network_mode.removeprefix("container:") in ids]
    return [*guests, *ids]
