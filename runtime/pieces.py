"""Answers that are larger than one message: cut by the device, put together by the registry.

Every piece names its number and how many there are; the first also says what came of the command.
Pieces may come in any order, and twice. One that is lost is not asked for again: whoever asked is
told how many came, and asks for the whole once more.
"""

from msgspec.structs import replace

from runtime.errors import InvalidError
from runtime.messages import CommandResult

PIECE_BYTES = 128 * 1024
"""In JSON it takes a third more, which still fits a message."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_PIECES = MAX_ANSWER_BYTES // PIECE_BYTES


def cut(result: CommandResult) -> tuple[CommandResult, ...]:
    """Return a result as it travels; raise InvalidError if it is larger than may be."""
    size = len(result.data)
    if size > MAX_ANSWER_BYTES:
        raise InvalidError("data", f"{size} bytes", f"answer at most {MAX_ANSWER_BYTES}")
    count = max(1, -(-size // PIECE_BYTES))
    first = replace(result, data=result.data[:PIECE_BYTES], pieces=count)
    rest = (
        CommandResult(
            result.id,
            result.ok,
            data=result.data[number * PIECE_BYTES : (number + 1) * PIECE_BYTES],
            piece=number,
            pieces=count,
        )
        for number in range(1, count)
    )
    return (first, *rest)


class Assembly:
    """The pieces of one answer that have come."""

    def __init__(self) -> None:
        self._pieces: dict[int, CommandResult] = {}
        self._count = 0

    def __str__(self) -> str:
        """Say how much is there."""
        return f"{len(self._pieces)} of {self._count} pieces"

    @property
    def begun(self) -> bool:
        """Whether any piece has come."""
        return bool(self._pieces)

    def add(self, piece: CommandResult) -> CommandResult | None:
        """Return the whole once it is there; raise InvalidError for what fits no answer."""
        if not 0 <= piece.piece < piece.pieces <= MAX_PIECES:
            found = f"{piece.piece} of {piece.pieces}"
            raise InvalidError("piece", found, f"number at most {MAX_PIECES} from 0")
        if len(piece.data) > PIECE_BYTES:
            raise InvalidError("data", f"{len(piece.data)} bytes", f"at most {PIECE_BYTES} a piece")
        if self._count not in {0, piece.pieces}:
            raise InvalidError("pieces", piece.pieces, f"there were {self._count} before")
        self._count = piece.pieces
        self._pieces[piece.piece] = piece
        if len(self._pieces) < self._count:
            return None
        data = b"".join(self._pieces[number].data for number in range(self._count))
        return replace(self._pieces[0], data=data, piece=0, pieces=1)
