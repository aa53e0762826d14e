import pytest

from runtime.bundle import requirements
from runtime.errors import InvalidError


def test_packages_are_listed_one_a_line_with_comments() -> None:
    text = b"""# what score.py imports
scikit-learn==1.7.2
  numpy >= 2 , < 3   # any of 2
tomli; python_version < "3.11"

Requests[socks]
"""

    assert requirements.parse(text) == (
        "scikit-learn==1.7.2",
        "numpy >= 2 , < 3",
        'tomli; python_version < "3.11"',
        "Requests[socks]",
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("-r other.txt", "without options"),
        ("--index-url https://example.org", "without options"),
        ("numpy==2.0 --hash=sha256:00", "without options"),
        ("numpy==2.0 \\", "without options"),
        ("-e .", "without options"),
        ("numpy=2.0", "write a line such as numpy>=2"),
        ("../tiny.whl", "write a line such as"),
        ("tiny @ https://example.org/tiny.whl", "put the wheel into wheels/"),
    ],
)
def test_what_only_an_installer_understands_is_refused_by_line(line: str, says: str) -> None:
    with pytest.raises(InvalidError, match=r"^requirements line 2: ") as caught:
        requirements.parse(f"numpy\n{line}\n".encode())

    assert says in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a" * (requirements.MAX_BYTES + 1)])
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidError, match=r"^requirements: "):
        requirements.parse(data)
