"""Any plan of any files comes back bit for bit; any damage is refused as such."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.bundle.delta import planes, residual
from runtime.bundle.delta.format import Cursor
from runtime.bundle.delta.plan import Change, Copy, ElementType, Fresh, Segment
from runtime.errors import IntegrityError, InvalidError
from tests.support import delta_files
from tests.support.delta_files import Files

QUICK = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
TYPES = st.sampled_from(list(ElementType))
SPECIAL = {
    1: (0x00, 0x7F, 0x80, 0xFF),
    2: (0x0000, 0x8000, 0x7C00, 0xFC00, 0x7C01, 0x7E55, 0x0001, 0x83FF, 0x7F80, 0xFF81, 0x7FC1),
    4: (0, 0x80000000, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFC12345, 1, 0x807FFFFF, 0xFFFFFFFF),
    8: (0, 1 << 63, 0x7FF << 52, 0xFFF << 52, (0x7FF << 52) + 1, 1, 2**63 + 5, 2**64 - 1),
}
"""Zeros, infinities, NaNs with payloads, denormals: of each width, as bits."""


@st.composite
def elements(draw: st.DrawFn, kind: ElementType, count: int) -> bytes:
    """Weights, noise, or one value, with special ones among them."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    match draw(st.sampled_from(("weights", "noise", "same"))):
        case "weights" if kind is not ElementType.BYTES:
            data = delta_files.as_type(random.normal(0, 1, count), kind)
        case "noise":
            data = random.bytes(count * kind.width)
        case _:
            data = random.bytes(kind.width) * count
    values = np.frombuffer(data, f"<u{kind.width}").copy()
    share = draw(st.sampled_from((0.0, 0.01, 0.5)))
    chosen = random.random(count) < share
    special = np.array(SPECIAL[kind.width], f"<u{kind.width}")
    values[chosen] = random.choice(special, int(chosen.sum()))
    return values.tobytes()


@dataclass(frozen=True)
class Case:
    """Two files and a plan."""

    old: bytes
    new: bytes
    plan: list[Segment]


COUNTS = st.one_of(st.integers(0, 40), st.sampled_from((1000, 2047, 2048, 5001)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Segments in any order, at any offset, of any type."""
    old, new, plan = bytearray(), bytearray(), list[Segment]()
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(TYPES)
        count = draw(COUNTS)
        gap = draw(st.integers(0, 3))  # so that nothing is aligned
        old += bytes(gap)
        before, after = draw(elements(kind, count)), draw(elements(kind, count))
        place = len(old)
        old += before
        if count == 0:
            continue
        match draw(st.sampled_from(("copy", "change", "fresh"))):
            case "copy":
                plan.append(Copy(place, len(before)))
                new += before
            case "change":
                plan.append(Change(place, len(before), kind))
                new += after
            case _:
                plan.append(Fresh(len(after), kind))
                new += after
    return Case(bytes(old), bytes(new), plan)


@QUICK
@given(cases())
def test_any_plan_comes_back(case: Case) -> None:
    with tempfile.TemporaryDirectory() as place:
        files = Files(Path(place))
        files.write(case.old, case.new, case.plan, encoding="tensor-delta")

        assert files.applied() == case.new
        assert files.delta.stat().st_size <= len(case.new) + 150 + 30 * len(case.plan)


@QUICK
@given(TYPES.filter(lambda kind: kind is not ElementType.BYTES), COUNTS, st.data())
def test_any_tensor_comes_back(kind: ElementType, count: int, data: st.DataObject) -> None:
    old, new = (
        planes.bits(np.frombuffer(data.draw(elements(kind, count)), np.uint8), kind)
        for _ in range(2)
    )
    if count:
        cursor = Cursor(residual.encode(new, old, kind))
        assert np.array_equal(residual.decode(cursor, old, kind), new)
        cursor.finish()
    whole = Cursor(planes.encode(new, kind))
    assert np.array_equal(planes.decode(whole, count, kind), new)
    whole.finish()


DAMAGE = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=5)


@QUICK
@given(cases(), DAMAGE, st.sampled_from(("replace", "insert", "delete")))
def test_any_damage_is_refused_as_damage(
    case: Case, damage: list[tuple[float, int]], how: str
) -> None:
    """As IntegrityError or InvalidError and nothing else, unless the elements alone differ."""
    with tempfile.TemporaryDirectory() as place:
        files = Files(Path(place))
        files.write(case.old, case.new, case.plan, encoding="tensor-delta")
        delta = bytearray(files.delta.read_bytes())
        for where, value in damage:
            at = int(where * (len(delta) - 1))
            delta[at : at + (how != "insert")] = bytes((value,)) * (how != "delete")
        try:
            made = delta_files.decoded(bytes(delta), files.old)
        except (IntegrityError, InvalidError):
            return
        assert len(made) <= max(len(case.new), 64) * 1000
