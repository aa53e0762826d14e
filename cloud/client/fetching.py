"""Blobs from the registry, or from the store it redirects to: in pieces, several at once.

    .2c26b46b….partial   the file, with holes
    .2c26b46b….have      one byte for each piece: "1" once it is in the file

A later try goes on with the pieces that are missing. The whole is checked against its digest
before it takes its name; what fails that is fetched anew once.
"""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2

from cloud.client.parallel import Lanes
from cloud.client.sending import Counted, counting
from cloud.transport import Transport, path_of
from runtime import digests, files
from runtime.digests import Digest
from runtime.errors import IntegrityError

PIECE_BYTES = 8 << 20
_DONE = b"1"
_NAME_DIGITS = 32
_REDIRECT = 307
_PARTIAL_CONTENT = 206
_REFUSALS = 3
"""So often a store may refuse before the registry is asked to pass the bytes on."""


@dataclass(frozen=True)
class Wanted:
    """A blob that shall become a file."""

    digest: Digest
    size: int
    target: Path
    mode: int


class Fetcher:
    """Downloads blobs in lanes."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes, self._source = lanes, _Source()

    def fetch(self, wanted: Sequence[Wanted]) -> None:
        """Download all, durably; raise IntegrityError if the registry sends other bytes."""
        small = [each for each in wanted if each.size <= PIECE_BYTES]
        self._lanes.run(self._fetch_small, small)
        for large in (each for each in wanted if each.size > PIECE_BYTES):
            self._fetch_twice(_Partial(large), parallel=True)

    def _fetch_small(self, wanted: Wanted) -> None:
        self._fetch_twice(_Partial(wanted), parallel=False)

    def _fetch_twice(self, partial: "_Partial", *, parallel: bool) -> None:
        """Fetch what is missing; if the whole is wrong, all of it once more."""
        self._lanes.count(partial.arrived_bytes())
        self._fetch_missing(partial, parallel=parallel)
        try:
            partial.finish()
        except IntegrityError:
            self._lanes.count(-partial.wanted.size)
            self._fetch_missing(partial, parallel=parallel)
            partial.finish()

    def _fetch_missing(self, partial: "_Partial", *, parallel: bool) -> None:
        missing = [(partial, number) for number in partial.missing()]
        if parallel:
            self._lanes.run(self._fetch_piece, missing)
        else:
            for piece in missing:
                self._fetch_piece(piece)

    def _fetch_piece(self, piece: "tuple[_Partial, int]") -> None:
        partial, number = piece
        start, stop = partial.range_of(number)
        transport = self._lanes.transport

        def attempt() -> httpx2.Response:
            self._lanes.check()
            with (
                counting(self._lanes.count) as counted,
                self._source.open(transport, partial.wanted.digest, start, stop) as answer,
            ):
                if not answer.is_success:
                    answer.read()
                    return answer
                partial.write(number, answer, counted)
                return answer

        transport.attempt(attempt, again=True)


class _Partial:
    """A file that is coming."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        # A name of its own for each: bundles may have files with any names.
        name = digests.of_bytes(f"{wanted.target.name}\n{wanted.digest}".encode())[:_NAME_DIGITS]
        self._file = wanted.target.with_name(f".{name}.partial")
        self._have = wanted.target.with_name(f".{name}.have")

    def missing(self) -> list[int]:
        """Return the numbers of the pieces that are not here."""
        pieces = math.ceil(self.wanted.size / PIECE_BYTES)
        try:
            have = self._have.read_bytes() if self._file.exists() else b""
        except FileNotFoundError:
            have = b""
        return [number for number in range(pieces) if have[number : number + 1] != _DONE]

    def arrived_bytes(self) -> int:
        """Return how many bytes are here."""
        return self.wanted.size - sum(
            stop - start for start, stop in map(self.range_of, self.missing())
        )

    def range_of(self, number: int) -> tuple[int, int]:
        """Return where a piece begins and ends."""
        start = number * PIECE_BYTES
        return start, min(start + PIECE_BYTES, self.wanted.size)

    def write(self, number: int, answer: httpx2.Response, counted: Counted) -> None:
        """Put a piece in its place; raise httpx2.ReadError if the answer is too short."""
        start, stop = self.range_of(number)
        # Who does not know ranges sends everything.
        skip = 0 if answer.status_code == _PARTIAL_CONTENT else start
        at, handle = start, _open(self._file)
        try:
            for chunk in answer.iter_bytes(digests.CHUNK_BYTES):
                wanted = chunk[skip : skip + stop - at]
                skip = max(0, skip - len(chunk))
                os.pwrite(handle, wanted, at)
                at += len(wanted)
                counted.add(len(wanted))
                if at == stop:
                    break
        finally:
            os.close(handle)
        if at < stop:
            raise httpx2.ReadError(f"{stop - at} bytes of a piece did not come")
        handle = _open(self._have)
        try:
            os.pwrite(handle, _DONE, number)
        finally:
            os.close(handle)

    def finish(self) -> None:
        """Give the file its name, durably; raise IntegrityError, and forget it, if it is wrong."""
        wanted = self.wanted
        os.close(_open(self._file))
        with self._file.open("rb") as file:
            got = digests.of_stream(file)
            if got == wanted.digest:
                os.fchmod(file.fileno(), wanted.mode)
                files.fsync_file(file.fileno(), self._file)
        self._have.unlink(missing_ok=True)
        if got != wanted.digest:
            self._file.unlink()
            raise IntegrityError(str(wanted.target), wanted=wanted.digest, got=got)
        self._file.replace(wanted.target)
        files.fsync_directory(wanted.target.parent)


def _open(path: Path) -> int:
    """Return a handle for writing; nobody else can read what is not checked yet."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


class _Source:
    """Where the bytes come from: the registry, or the store's own URLs that it gives."""

    def __init__(self) -> None:
        self._urls: dict[Digest, str] = {}
        self._refusals = 0

    @contextlib.contextmanager
    def open(
        self, transport: Transport, digest: Digest, start: int, stop: int
    ) -> Iterator[httpx2.Response]:
        """Give the answer with these bytes; raises httpx2.TransportError if it does not come."""
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        url = self._urls.get(digest)
        if url is None:
            direct = {"direct": "true" if self._refusals < _REFUSALS else "false"}
            path = path_of("/blobs/{}", digest)
            with transport.http.stream("GET", path, params=direct, headers=headers) as answer:
                if answer.status_code != _REDIRECT:
                    yield answer
                    return
                url = self._urls[digest] = answer.headers["Location"]
        try:
            with transport.outside.stream("GET", url, headers=headers) as answer:
                if answer.is_success:
                    yield answer
                    return
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            # This machine does not reach the store; the registry does.
            self._refused(digest, times=_REFUSALS)
            raise
        except httpx2.TransportError:
            self._refused(digest)
            raise
        self._refused(digest)
        raise httpx2.ReadError(f"the store answered {answer.status_code}")

    def _refused(self, digest: Digest, times: int = 1) -> None:
        """Forget a URL: it may have expired."""
        self._refusals += times
        self._urls.pop(digest, None)
