"""The connection layer without a socket: heads, chunks, requests, codings."""

import gzip
import http
import itertools
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidError
from runtime.serving.rest import coding
from runtime.serving.wire import answers, head
from runtime.serving.wire.answers import Answer
from runtime.serving.wire.bodies import Body, HeapBody
from runtime.serving.wire.chunks import Chunks
from runtime.serving.wire.errors import RefusedError
from runtime.serving.wire.head import Head, Heads
from runtime.serving.wire.limits import Limits, body_deadline
from runtime.serving.wire.requests import Held, Refusal, Request, Requests, Sign

GET = b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n"


class Plain:
    """An app that refuses paths below /no."""

    def admit(self, of: Head) -> Answer | None:
        return answers.error(404, "not here") if of.target.startswith(b"/no") else None

    def place(self, of: Head) -> Body:
        return HeapBody(of.length)

    def answer(self, _head: Head, _body: bytes | Body) -> Answer:
        return answers.json(b"{}")


def requests(**limits: int) -> Requests:
    bounds = Limits(**limits)  # type: ignore[arg-type]  # the sizes are integers
    return Requests(Plain(), Heads(most_bytes=bounds.body_bytes), Held(bounds.held_bytes), bounds)


def drained(of: Requests, data: bytes, cuts: Sequence[int] = ()) -> list[Request | Refusal | Sign]:
    """Feed data in pieces; return all that came of it, bodies as bytes."""
    events: list[Request | Refusal | Sign] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in itertools.pairwise(edges):
        of.ahead += data[start:stop]
        while (event := of.next()) is not None and event is not Sign.OVERRUN:
            events.append(event)
            if isinstance(event, Request):
                of.release()
    return events


def told(events: Sequence[Request | Refusal | Sign]) -> list[object]:
    """Return events as values."""
    found: list[object] = []
    for event in events:
        match event:
            case Request():
                body = event.body if isinstance(event.body, bytes) else bytes(event.body.view)
                found.append((event.head.method, event.head.target, body))
            case Refusal():
                found.append((event.answer.status, event.last))
            case _:
                found.append(event)
    return found


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\nHost: x\n\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nExpect: more\r\n\r\n", 417),
    ],
)
def test_what_is_no_request_is_refused_with_its_status(data: bytes, status: int) -> None:
    with pytest.raises(RefusedError) as refused:
        head.parse(data)

    assert refused.value.status == status
    assert told(drained(requests(), data + GET)) == [(status, True)]


@pytest.mark.parametrize(
    ("data", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", True),
    ],
)
def test_whether_a_connection_goes_on_is_the_client_s_word(data: bytes, keep_alive: bool) -> None:  # noqa: FBT001 - a case
    assert head.parse(data).keep_alive is keep_alive


def test_a_head_is_parsed_once_and_heads_do_not_pile_up() -> None:
    heads = Heads(most_bytes=100)

    assert heads.parse(GET) is heads.parse(GET)
    for number in range(3 * head.MAX_REMEMBERED):
        heads.parse(b"GET /%d HTTP/1.1\r\n\r\n" % number)
    large = b"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n"
    assert heads.parse(large) is not heads.parse(large)
    assert len(heads._known) <= head.MAX_REMEMBERED


STREAM = (
    GET
    + b"\r\n"
    + b"POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
    + b"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"5;x=1\r\nhello\r\n6 \r\n world\r\n0\r\nTrailer: t\r\n\r\n"
    + b"POST /c HTTP/1.1\r\nContent-Length: 40000\r\n\r\n"
    + b"z" * 40_000
    + b"POST /no HTTP/1.1\r\nContent-Length: 40000\r\n\r\n"
    + b"z" * 40_000
    + b"POST /big HTTP/1.1\r\nContent-Length: 60000\r\n\r\n"
    + b"z" * 60_000
    + b"POST /chunks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    + (b"7000\r\n" + b"z" * 0x7000 + b"\r\n") * 2
    + b"0\r\n\r\n"
    + GET
)
EVENTS = [
    ("GET", b"/v2", b""),
    ("POST", b"/a", b"hello"),
    ("POST", b"/b", b"hello world"),
    ("POST", b"/c", b"z" * 40_000),
    (404, False),
    Sign.DROPPED,
    (413, False),
    Sign.DROPPED,
    (413, False),
    Sign.DROPPED,
    ("GET", b"/v2", b""),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_it_does_not_matter_how_the_bytes_are_cut(cuts: list[int]) -> None:
    assert told(drained(requests(body_bytes=50_000), STREAM, cuts)) == EVENTS


def test_a_body_that_is_expected_is_asked_for_or_refused_for_good() -> None:
    expecting = b" HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"

    assert told(drained(requests(), b"POST /a" + expecting)) == [Sign.CONTINUE]
    assert told(drained(requests(), b"POST /no" + expecting)) == [(404, True)]
    assert told(drained(requests(body_bytes=4), b"POST /a" + expecting)) == [(413, True)]


def test_a_long_refused_body_ends_the_connection() -> None:
    claims = b"POST /a HTTP/1.1\r\nContent-Length: 2000000000\r\n\r\n"
    of = requests()

    assert told(drained(of, claims)) == [(413, True)]
    of.ahead += b"z" * (Limits().discard_bytes + 1)
    assert of.next() is Sign.OVERRUN


def test_a_length_that_is_only_claimed_takes_no_memory() -> None:
    body = HeapBody(1 << 40)

    assert len(body.room()) <= 1 << 20


@pytest.mark.parametrize("aligned", [0, 1, 77, 147])
def test_tensors_in_a_large_body_lie_where_any_type_may(aligned: int) -> None:
    body = HeapBody(3_000_000, aligned=aligned)
    filler = bytes(range(256)) * 4000
    while len(body.view) < 3_000_000:
        room = body.room()
        count = min(len(room), len(filler))
        room[:count] = filler[:count]
        body.filled(count)

    assert np.frombuffer(body.view, np.uint8).ctypes.data % 64 == -aligned % 64


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"\r\n",
        b"-1\r\n",
        b"0x5\r\nhello\r\n",
        b"5\r\nhelloo\r\n",
        b"5\nhello\n",
        b"1" * 2000,
        b"ffffffffffffffff\r\n",
        b"0\r\nno trailer\r\n\r\n",
        b"0\r\n" + b"a: b\r\n" * 5000,
    ],
)
def test_malformed_chunks_are_refused(data: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        Chunks().feed(bytearray(data + b" " * 2000), [])

    assert refused.value.status == http.HTTPStatus.BAD_REQUEST


def test_a_body_may_come_slowly_but_not_endlessly() -> None:
    bounds = Limits(stall_s=20, body_bytes_per_s=1000)

    assert body_deadline(0, 0, 0, bounds) == 20
    assert body_deadline(15, 0, 1_000_000, bounds) == 35
    assert body_deadline(100, 0, 100, bounds) < 100


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("gzip", gzip.compress(b"x" * 1000)),
        ("gzip", gzip.compress(b"x" * 600) + gzip.compress(b"x" * 400)),
        ("deflate", zlib.compress(b"x" * 1000)),
        ("zstd", zstandard.compress(b"x" * 1000)),
    ],
    ids=["gzip", "gzip in two members", "deflate", "zstd"],
)
def test_a_packed_body_is_unpacked_within_bounds(name: str, packed: bytes) -> None:
    assert coding.decompress(name, packed, 1000) == b"x" * 1000
    with pytest.raises(RefusedError):
        coding.decompress(name, packed, 999)


@pytest.mark.parametrize("name", sorted(coding.OFFERED))
def test_a_packed_body_that_is_none_is_refused(name: str) -> None:
    whole = coding.compress(name, answers.json(b"y" * 1000)).pieces[0]
    for body in (b"", b"junk", bytes(whole)[:-3]):
        with pytest.raises(InvalidError):
            coding.decompress(name, body, 10_000)


def test_a_bomb_is_not_blown_up() -> None:
    for name, bomb in (
        ("gzip", gzip.compress(bytes(50_000_000))),
        ("zstd", zstandard.ZstdCompressor(write_content_size=False).compress(bytes(50_000_000))),
    ):
        with pytest.raises(RefusedError):
            coding.decompress(name, bomb, 10_000)


@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        (None, None),
        (b"", None),
        (b"identity", None),
        (b"br", None),
        (b"gzip, deflate, br, zstd", "gzip"),
        (b"zstd", "zstd"),
        (b"gzip;q=0, zstd;q=0.5", "zstd"),
        (b"gzip;q=0.2, Zstd;q=0.9", "zstd"),
        (b"gzip;q=x", None),
    ],
)
def test_a_client_that_wants_an_answer_packed_says_how(
    value: bytes | None, chosen: str | None
) -> None:
    assert coding.accepted(value) == chosen
