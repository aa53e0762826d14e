"""`python -m runtime.bundle.unpack`: decode one blob into a blob store, and end.

For callers that must stay small: what numpy and the libraries take goes with this process, and so
does a crash. Killed at any moment it leaves nothing but a temporary file that the store sweeps. On
failure the exit code is 1 and the last line of standard error is JSON: {"kind": …, "text": …}.
"""

import argparse
import sys
from pathlib import Path

import msgspec

from runtime import digests
from runtime.bundle import encodings
from runtime.bundle.blobs import BlobStore
from runtime.errors import PackhorseError


def main(argv: list[str] | None = None) -> int:
    """Do what the arguments say; return the exit code."""
    given = _arguments().parse_args(argv)
    try:
        encodings.decode(
            given.encoding,
            given.file,
            BlobStore(given.store),
            size=given.size,
            sha256=digests.parse(given.sha256, "sha256"),
            base=given.base,
        )
    except (PackhorseError, OSError, MemoryError) as error:
        words = {"kind": type(error).__name__, "text": str(error)}
        sys.stderr.buffer.write(msgspec.json.encode(words) + b"\n")
        return 1
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="runtime.bundle.unpack", description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="the blob store's directory")
    parser.add_argument("--encoding", required=True, help="how the file is encoded")
    parser.add_argument("--file", type=Path, required=True, help="the encoded file")
    parser.add_argument("--size", type=int, required=True, help="bytes of the blob")
    parser.add_argument("--sha256", required=True, help="digest of the blob")
    parser.add_argument("--base", type=Path, help="the older blob that the encoding builds on")
    return parser


if __name__ == "__main__":
    sys.exit(main())
