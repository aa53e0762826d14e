import pytest

from cloud.messaging.neighbours import KEEP_S, MOST_PEERS, NO_ADVICE, WAIT_S, Advice, Neighbours
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.topics import DeviceId

TABLE, OTHER = Digest("a" * 64), Digest("b" * 64)


def address(number: int) -> str:
    return f"10.0.0.{number}:8770"


def advise(
    known: Neighbours, number: int, *, site: str = "lab", table: Digest = TABLE, now: float = 0.0
) -> Advice:
    device = DeviceId(f"dev-{number}")
    return known.advise(site, table, device, address(number), now=now)


def test_the_first_of_a_site_downloads_and_the_others_wait_for_it() -> None:
    known = Neighbours()

    assert advise(known, 1) == NO_ADVICE
    assert advise(known, 2) == Advice((address(1),), WAIT_S)
    assert advise(known, 3) == Advice((address(1), address(2)), 2 * WAIT_S)
    assert advise(known, 1) == Advice((address(2), address(3)), 0.0), "it does not wait"


def test_sites_and_encodings_are_apart() -> None:
    known = Neighbours()
    advise(known, 1)

    assert advise(known, 2, site="roof") == NO_ADVICE
    assert advise(known, 2, table=OTHER) == NO_ADVICE


def test_who_asked_long_ago_is_forgotten() -> None:
    known = Neighbours()
    advise(known, 1)

    assert advise(known, 2, now=KEEP_S + 1) == NO_ADVICE


def test_a_large_site_is_told_of_a_few() -> None:
    known = Neighbours()
    for number in range(1, 101):
        advise(known, number)

    peers = advise(known, 200).peers

    assert len(peers) == MOST_PEERS
    assert {address(1), address(100)} <= set(peers)


@pytest.mark.parametrize(
    "text",
    ["8.8.8.8:80", "example.com:80", "10.0.0.1", "10.0.0.1:0", "x@10.0.0.1:1", "10.0.0.1:1/x",
     "0.0.0.0:1", "10.0.0.1:99999", "[::1", ""],
)  # fmt: skip
def test_an_address_outside_a_local_network_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="private address"):
        Neighbours().advise("lab", TABLE, DeviceId("a"), text, now=0.0)


def test_an_address_of_ipv6_is_one_too() -> None:
    assert Neighbours().advise("x", TABLE, DeviceId("a"), "[fd00::1]:8770", now=0.0) == NO_ADVICE
