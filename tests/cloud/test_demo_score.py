from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.demo.score import Key, Stored, Tally, score


def answer(device: str, item: str, label: int, version: int = 1) -> Stored:
    return Stored(device, "digits", version, item, None, label)


def test_each_version_is_judged_by_its_own_answers() -> None:
    truth: dict[Key, int] = {
        ("dev-1", "digits", "item:a"): 3,
        ("dev-1", "digits", "item:b"): 4,
        ("dev-2", "digits", "item:a"): 5,
    }
    records = [answer("dev-1", "a", 3), answer("dev-1", "b", 9), answer("dev-2", "a", 5, version=2)]

    found = score(truth, records, truth)

    assert found.tallies == {"digits": {1: Tally(1, 2), 2: Tally(1, 1)}}
    assert found.tallies["digits"][1].accuracy == 0.5
    assert found.by_device == {"dev-1": 2, "dev-2": 1}


def test_a_request_counts_as_a_record_but_has_no_known_truth() -> None:
    key: Key = ("dev-1", "digits", "request:r1")

    found = score([key], [Stored("dev-1", "digits", 1, None, "r1", 7)], {})

    assert (found.produced, found.stored, found.lost, found.duplicated) == (1, 1, 0, 0)
    assert found.tallies == {"digits": {1: Tally(0, 0)}}
    assert found.tallies["digits"][1].accuracy == 0.0


def test_a_failed_prediction_is_wrong() -> None:
    key: Key = ("dev-1", "digits", "item:a")

    found = score([key], [Stored("dev-1", "digits", 1, "a", None, None)], {key: 3})

    assert found.tallies == {"digits": {1: Tally(0, 1)}}


@settings(max_examples=50)
@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.integers(1, 3))
def test_what_is_missing_is_lost_and_what_is_there_again_is_duplicated(
    produced: set[int], arrived: set[int], times: int
) -> None:
    keys: set[Key] = {("dev-1", "digits", f"item:{number}") for number in produced}
    records = [answer("dev-1", str(number), 0) for number in arrived for _ in range(times)]

    found = score(keys, records, {})

    assert found.lost == len(produced - arrived)
    assert found.duplicated == len(arrived) * (times - 1)
    assert found.stored == len(arrived) * times
