import msgspec
import pytest

from runtime.bundle import policy
from runtime.bundle.index import FileEntry, Index, Signature, Step
from runtime.digests import Digest
from runtime.errors import InvalidError

SCRIPTED = Index(
    format=1,
    name="m",
    kind="python",
    model="",
    files=(FileEntry("score.py", 1, Digest("0" * 64)),),
    signature=Signature((), ()),
    entry="score.py",
)
DATA = msgspec.structs.replace(SCRIPTED, kind="onnx", entry=None)
PICKLED = msgspec.structs.replace(SCRIPTED, needs=("pickle",))


def refusal(index: Index, *allow: str, found: tuple[str, ...] = ()) -> InvalidError:
    with pytest.raises(InvalidError) as caught:
        policy.require(index, found, allow, switch="use --allow {need}")
    return caught.value


def admit(index: Index, *allow: str) -> None:
    policy.require(index, (), allow, switch="use --allow {need}")


def test_what_each_bundle_needs_follows_from_its_index() -> None:
    assert policy.needs(DATA) == ()
    assert policy.needs(SCRIPTED) == ("entry-script",)
    assert policy.needs(PICKLED) == ("entry-script", "pickle")


def test_an_ensemble_needs_what_its_steps_need() -> None:
    steps = (Step("a", "steps/a", DATA), Step("b", "steps/b", PICKLED))
    whole = msgspec.structs.replace(DATA, kind="ensemble", steps=steps)

    assert policy.scripts(whole) == ("steps/b/score.py",)
    assert policy.needs(whole) == ("entry-script", "pickle")
    assert refusal(whole).field == "files[steps/b/score.py]"


def test_by_default_scripts_are_allowed_and_pickles_are_not() -> None:
    admit(SCRIPTED, *policy.DEFAULT)

    assert refusal(PICKLED, *policy.DEFAULT).value == "pickle"


def test_the_switch_is_named() -> None:
    assert "refused unless you use --allow pickle" in str(refusal(PICKLED, "entry-script"))
    assert "use --allow entry-script" in str(refusal(SCRIPTED))


def test_who_allows_pickles_allows_the_script_that_loads_them() -> None:
    admit(PICKLED, "pickle")


def test_a_bundle_of_data_is_always_let_in() -> None:
    admit(DATA)


def test_an_index_that_hides_a_pickle_is_caught_by_what_was_found() -> None:
    error = refusal(SCRIPTED, "entry-script", found=("z.bin", "a.bin"))

    assert error.field == "files[a.bin]"


def test_a_need_of_a_later_version_is_refused() -> None:
    later = msgspec.structs.replace(SCRIPTED, needs=("teleport",))

    assert "upgrade" in str(refusal(later, "pickle", "teleport-not"))


def test_an_operators_list_is_read_strictly() -> None:
    assert policy.parse(["pickle", "entry-script", "pickle"], "allow") == (
        "pickle",
        "entry-script",
    )
    assert policy.parse(["nothing"], "allow") == ()
    with pytest.raises(InvalidError, match="use entry-script, pickle, nothing"):
        policy.parse(["pickles"], "allow")
