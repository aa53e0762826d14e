import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import messages, pieces
from runtime.errors import InvalidError
from runtime.messages import CommandResult
from runtime.pieces import MAX_ANSWER_BYTES, MAX_PIECES, PIECE_BYTES, Assembly

SIZES = st.sampled_from([0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES - 1])


@settings(max_examples=25)
@given(size=SIZES, data=st.data())
def test_an_answer_is_put_together_from_pieces_in_any_order_and_doubled(
    size: int, data: st.DataObject
) -> None:
    whole = CommandResult("c", ok=True, text="here", facts={"a": "1"}, data=b"x" * size)
    cut = pieces.cut(whole)
    arriving = data.draw(st.permutations([*cut, *cut[:-1]]))
    assembly = Assembly()
    given_back = [
        found
        for piece in arriving
        if (found := assembly.add(messages.decode(CommandResult, messages.encode(piece))))
    ]

    assert all(len(messages.encode(piece)) <= messages.MAX_MESSAGE_BYTES for piece in cut)
    assert given_back
    assert all(found == whole for found in given_back)


def test_an_answer_without_data_travels_as_it_always_did() -> None:
    (only,) = pieces.cut(CommandResult("c", ok=True, text="p95 is 1.0 ms"))

    assert messages.encode(only) == b'{"id":"c","ok":true,"text":"p95 is 1.0 ms"}'


def test_more_than_fits_an_answer_is_refused() -> None:
    with pytest.raises(InvalidError, match=f"answer at most {MAX_ANSWER_BYTES}"):
        pieces.cut(CommandResult("c", ok=True, data=b"x" * (MAX_ANSWER_BYTES + 1)))


@pytest.mark.parametrize(
    "piece",
    [
        CommandResult("c", ok=True, piece=-1, pieces=2),
        CommandResult("c", ok=True, piece=2, pieces=2),
        CommandResult("c", ok=True, piece=0, pieces=0),
        CommandResult("c", ok=True, piece=0, pieces=MAX_PIECES + 1),
        CommandResult("c", ok=True, piece=0, pieces=3),
        CommandResult("c", ok=True, data=b"x" * (PIECE_BYTES + 1), pieces=2),
    ],
    ids=["below", "beyond", "none", "too many", "another count", "too large"],
)
def test_a_piece_that_fits_no_answer_is_refused(piece: CommandResult) -> None:
    assembly = Assembly()
    assembly.add(CommandResult("c", ok=True, piece=1, pieces=2))

    with pytest.raises(InvalidError):
        assembly.add(piece)
    assert str(assembly) == "1 of 2 pieces"
