import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import errors, topics
from runtime.topics import Channel, DeviceId, Topic

DEVICES = st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True).map(DeviceId)


@given(DEVICES, st.sampled_from(Channel))
def test_a_rendered_topic_parses_back(device: DeviceId, channel: Channel) -> None:
    assert topics.parse(topics.render(device, channel)) == Topic(device, channel)


@given(DEVICES, DEVICES, st.sampled_from(Channel), st.sampled_from(Channel))
def test_no_two_channels_share_a_topic(
    one: DeviceId, other: DeviceId, first: Channel, second: Channel
) -> None:
    same = topics.render(one, first) == topics.render(other, second)

    assert same == ((one, first) == (other, second))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ph/1/dev/unknown",
        "ph/2/dev/desired",
        "ph/1/Dev/desired",
        "ph/1/dev/desired/more",
        "ph/1/+/desired",
        "ph/1//desired",
        "ph/1/dev/telemetry",
        "ph/1/s99/telemetry/dev",
    ],
)
def test_a_topic_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidError):
        topics.parse(text)


@pytest.mark.parametrize("text", ["", "A", "a_b", "a.b", "a/b", "#", "x" * 64, "ä", 7, None])
def test_a_device_id_that_could_mean_more_than_one_topic_is_refused(text: object) -> None:
    with pytest.raises(errors.InvalidError, match="use 1 to 63"):
        topics.device_id(text)


def test_the_registry_cannot_be_impersonated_by_a_device_of_its_name() -> None:
    with pytest.raises(errors.InvalidError):
        topics.device_id(topics.REGISTRY_USER)


def test_shards_are_stable_for_ever() -> None:
    assert [topics.shard_of(DeviceId(name)) for name in ("a", "dev-1", "pi-042")] == [
        "s03",
        "s06",
        "s10",
    ]


def test_shards_share_the_load_evenly() -> None:
    counts = dict.fromkeys((f"s{n:02d}" for n in range(topics.SHARDS)), 0)
    for number in range(16_000):
        counts[topics.shard_of(DeviceId(f"dev-{number}"))] += 1

    assert min(counts.values()) > 800
