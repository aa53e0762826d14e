import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.registry import selectors
from cloud.registry.selectors import Operator, Requirement, Selector
from runtime.errors import InvalidError

FEW = settings(max_examples=150)

keys = st.sampled_from(["site", "arch", "in", "a.b/c-d_e", "notin", "Z9"])
values = st.one_of(
    st.sampled_from(["lab", "x86_64", "1.0", "in"]),
    st.text(
        st.characters(codec="utf-8", exclude_characters="'\"", categories=["L", "N", "Zs", "P"])
    ),
)
requirements = st.one_of(
    st.builds(
        Requirement,
        keys,
        st.sampled_from([Operator.IN, Operator.NOT_IN]),
        st.frozensets(values, min_size=1, max_size=3),
    ),
    st.builds(Requirement, keys, st.sampled_from([Operator.EXISTS, Operator.ABSENT])),
)
wholes = st.builds(Selector, st.lists(requirements, max_size=4).map(tuple))
attributes = st.dictionaries(keys, values, max_size=5)


@FEW
@given(wholes)
def test_what_is_written_is_read_the_same(selector: Selector) -> None:
    assert selectors.parse(str(selector)) == selector


@FEW
@given(wholes, attributes)
def test_a_comma_means_and(selector: Selector, device: dict[str, str]) -> None:
    each = [selectors.parse(str(one)).matches(device) for one in selector.requirements]

    assert selector.matches(device) == all(each)


@FEW
@given(keys, values, attributes)
def test_not_equal_is_the_opposite_of_equal(key: str, value: str, device: dict[str, str]) -> None:
    one = Requirement(key, Operator.IN, frozenset({value}))
    other = Requirement(key, Operator.NOT_IN, frozenset({value}))

    assert one.matches(device) == (device.get(key) == value)
    assert other.matches(device) != one.matches(device)


@FEW
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    try:
        selector = selectors.parse(text)
    except InvalidError as error:
        assert error.field == "selector"  # noqa: PT017 - either outcome is right
    else:
        assert selectors.parse(str(selector)) == selector


@FEW
@given(st.text(alphabet="ab=!(),* in'\"", max_size=24))
def test_any_text_of_the_grammars_own_characters_is_read_or_refused(text: str) -> None:
    try:
        selector = selectors.parse(text)
    except InvalidError as error:
        assert error.field == "selector"  # noqa: PT017 - either outcome is right
    else:
        assert selectors.parse(str(selector)) == selector


@FEW
@given(values)
def test_every_label_value_that_is_accepted_can_be_selected(value: str) -> None:
    try:
        selectors.check_value(value)
    except InvalidError:
        return
    wish = Selector((Requirement("key", Operator.IN, frozenset({value})),))

    assert selectors.parse(str(wish)).matches({"key": value})


@pytest.mark.parametrize(
    ("text", "device", "selected"),
    [
        ("all", {}, True),
        (" * ", {"a": "b"}, True),
        ("site=lab", {"site": "lab"}, True),
        ("site == lab", {"site": "lab"}, True),
        ("site=lab", {}, False),
        ("site!=lab", {}, True),
        ("site!=lab,arch=arm", {"arch": "arm"}, True),
        ("arch in (x86_64, aarch64)", {"arch": "aarch64"}, True),
        ("arch in(x86_64,aarch64)", {"arch": "armv7l"}, False),
        ("arch notin (x86_64)", {"arch": "armv7l"}, True),
        ("gpu", {"gpu": ""}, True),
        ("!gpu", {"gpu": ""}, False),
        ("! gpu", {}, True),
        ("device=dev-1", {"device": "dev-1"}, True),
        ("board = 'Raspberry Pi 4, rev 1.4'", {"board": "Raspberry Pi 4, rev 1.4"}, True),
        ("in in (in)", {"in": "in"}, True),
        ("site\n=\tlab", {"site": "lab"}, True),
    ],
)
def test_selectors_mean_what_they_say(text: str, device: dict[str, str], selected: bool) -> None:  # noqa: FBT001 - a table's column
    assert selectors.parse(text).matches(device) is selected


@pytest.mark.parametrize(
    ("text", "position", "wanted"),
    [
        ("site=", 6, "a value"),
        ("site=lab arch=arm", 10, "a comma, or the end"),
        ("site lab", 6, "=, !=, 'in' or 'notin'"),
        ("=lab", 1, "a key"),
        ("a=b,", 5, "a key"),
        ("a in b", 6, "'('"),
        ("a in (b", 8, "',' or ')'"),
        ("a in ()", 7, "a value"),
        ("all, a=b", 1, "a key: 'all' stands alone"),
        ("a=b, *", 6, "a key: '*' stands alone"),
        ("a = 'open", 5, "a key, a value or a comma"),
        ("a&b", 2, "a key, a value or a comma"),
        ("!", 2, "a key"),
    ],
)
def test_what_cannot_be_read_is_pointed_at(text: str, position: int, wanted: str) -> None:
    with pytest.raises(InvalidError) as caught:
        selectors.parse(text)

    lines = str(caught.value).splitlines()
    assert f"at character {position} expected {wanted}" in lines[0]
    assert lines[1] == f"  {text}"
    assert lines[2] == " " * (position + 1) + "^"


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_nothing_selects_nothing_by_accident(text: str) -> None:
    with pytest.raises(InvalidError, match="write 'all' to mean every device"):
        selectors.parse(text)


def test_a_selector_without_end_is_refused() -> None:
    with pytest.raises(InvalidError, match="write at most"):
        selectors.parse("a=b," * 1000)


@pytest.mark.parametrize("key", ["all", "device", "", "-a", "a b", "a=b", "x" * 64, "ü"])
def test_labels_that_no_selector_could_name_are_refused(key: str) -> None:
    with pytest.raises(InvalidError):
        selectors.check_key(key)
