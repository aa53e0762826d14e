"""What targets and gateways say, as decisions and people need it. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from cloud.hosting.sight import Seen, Sight
from cloud.hosting.targets import Observed, ObservedRevision, Reason, Wish
from runtime.gateway.config import Status

MAX_REASONS = 3
IMAGE_GONE = "ImageMissing"
"""Code of the reason that the engine has not an image."""

DRIFTED = frozenset({"Drifted", "Missing", "NoGateway"})
"""Codes of reasons that say that somebody changed, or took away, the gateway or the ways in."""


def see(
    observed: Observed,
    statuses: Sequence[Status],
    *,
    generation: int,
    images: Iterable[int],
    broken: Mapping[int, str],
    trouble: str,
) -> Seen:
    """Return what is seen of a service whose newest generation is this."""
    return Seen(
        known=True,
        revisions={
            each.number: Sight(each.condition, each.ready, reasons_text(each.reasons))
            for each in observed.revisions
        },
        in_force=observed.generation == generation,
        statuses=tuple(statuses),
        images=frozenset(images),
        broken=broken,
        trouble=trouble,
    )


def blind(*, images: Iterable[int], broken: Mapping[int, str], trouble: str) -> Seen:
    """Return what is known while the target has said nothing."""
    return Seen(known=False, images=frozenset(images), broken=broken, trouble=trouble)


def reasons_text(reasons: Sequence[Reason]) -> str:
    """Return why something is not ready, in one line."""
    texts = dict.fromkeys(f"{each.code}: {each.text}" for each in reasons)
    shown = list(texts)[:MAX_REASONS]
    more = len(texts) - len(shown)
    return "; ".join([*shown, *([f"and {more} more"] if more else [])])


def settled(observed: Observed, wish: Wish) -> bool:
    """Say whether what is there is what was wished, as far as applying it again could tell."""
    return (
        observed.generation == wish.generation
        and {each.number for each in observed.revisions} == {r.number for r in wish.revisions}
        and not drifted(observed)
        and observed.gateway_ready > 0
    )


def drifted(observed: Observed) -> tuple[str, ...]:
    """Return what somebody else changed: of revisions, and of what a service has once."""
    own = tuple(each.text for each in observed.reasons if each.code in DRIFTED)
    return own + tuple(name for each in observed.revisions for name in each.drifted)


def must_mend(observed: Observed, wish: Wish) -> bool:
    """Say whether somebody changed something, or the gateways do not use something any more."""
    wished = {each.number for each in wish.revisions}
    left = any(each.number not in wished for each in observed.revisions)
    return bool(drifted(observed)) or (left and observed.generation == wish.generation)


def images_gone(observed: Observed) -> tuple[int, ...]:
    """Return revisions whose image was only in the engine, and is there no more."""

    def gone(each: ObservedRevision) -> bool:
        local = "@" not in each.image  # else it is pulled again
        return local and any(reason.code == IMAGE_GONE for reason in each.reasons)

    return tuple(each.number for each in observed.revisions if gone(each))


def gateway_image_gone(observed: Observed, image: str) -> bool:
    """Say whether the same goes for the gateway's image."""
    missing = any(each.code == IMAGE_GONE for each in observed.reasons)
    return "@" not in image and observed.gateway_ready == 0 and missing


def shares(
    traffic: Mapping[int, int], seen: Seen, known: Mapping[int, int]
) -> dict[int, int] | None:
    """Return which revisions have which share, by what the gateways say; None: not known.

    `known` are the shares that were known before: a replica that answers no more keeps its share.
    """
    if not seen.known or not seen.in_force:
        return None
    return {n: w for n, w in traffic.items() if w and (n in known or seen.answers(n))}
