"""What a plan's estimate rests on."""

from cloud.rollouts.measuring import ASSUMED_S, Measured, Sample

MB = 1_000_000


def test_without_measurements_an_assumption_is_made_and_said() -> None:
    known = Measured()

    assert known.estimates({"a": MB}) == {"a": ASSUMED_S}
    assert known.said(0.0) == "nothing was measured yet: 60 s assumed for each device"


def test_a_device_takes_what_it_took_and_more_for_more_bytes() -> None:
    """The device in the middle fetched 100 kB a second; one that is new is like that one."""
    known = Measured({"a": Sample(40.0, 4 * MB, 90.0), "b": Sample(10.0, None, 100.0)})

    found = known.estimates({"a": 8 * MB, "b": 8 * MB, "new": 4 * MB, "small": 0})

    assert found == {"a": 80.0, "b": 10.0, "new": 25.0, "small": 10.0}
    told = "measured: 2 updates of these devices, the last 5 s ago, 25 s in the middle"
    assert known.said(105.0) == f"{told}, at 100 kB/s"


def test_what_other_devices_took_is_said_to_be_that() -> None:
    known = Measured({"z": Sample(7.0)}, own=False)

    assert known.estimates({"a": MB}) == {"a": 7.0}
    assert "of other devices" in known.said(0.0)
