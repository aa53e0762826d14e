import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import blobpieces
from runtime.blobpieces import MAX_PIECE_BYTES, Head
from runtime.errors import InvalidError


@given(st.text(max_size=40), st.integers(0, 1 << 40), st.binary(max_size=2000))
def test_a_piece_arrives_as_it_was_sent(name: str, total: int, data: bytes) -> None:
    head = Head(name, total=total)

    assert blobpieces.decode(blobpieces.encode(head, data)) == (head, data)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\0", b"\0\x02{}", b"\xff\xff{}", b"\0\x04nope", b"x" * (MAX_PIECE_BYTES + 8192)],
)
def test_what_cannot_be_a_piece_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidError, match="piece"):
        blobpieces.decode(payload)


def test_a_long_error_is_cut() -> None:
    head, _ = blobpieces.decode(blobpieces.encode(Head("1", error="x" * 100_000)))

    assert len(head.error) == 1000
