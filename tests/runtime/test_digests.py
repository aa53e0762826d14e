import hashlib
import io
from pathlib import Path

import pytest

from runtime import digests, errors


def test_bytes_files_and_streams_agree(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    path = tmp_path / "blob"
    path.write_bytes(data)
    wanted = hashlib.sha256(data).hexdigest()

    assert digests.of_bytes(data) == wanted
    assert digests.of_file(path) == wanted
    assert digests.of_stream(io.BytesIO(data)) == wanted


@pytest.mark.parametrize("text", ["", "ab", "G" * 64, "A" * 64, "a" * 65, " " + "a" * 63, 5, None])
def test_what_is_no_digest_is_refused(text: object) -> None:
    with pytest.raises(errors.InvalidError, match="SHA-256"):
        digests.parse(text)


def test_a_digest_is_returned_as_it_is() -> None:
    assert digests.parse("0a" * 32) == "0a" * 32
