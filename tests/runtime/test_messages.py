import msgspec
import pytest

from runtime import errors, messages
from runtime.digests import Digest
from runtime.messages import Desired, ModuleReport, ModuleSpec, Phase, Reported

DIGEST = Digest("ab" * 32)
DESIRED = Desired(
    device="dev-1",
    generation=7,
    issued_at=1.5,
    modules=(
        ModuleSpec(name="digits", bundle=DIGEST, model="digits", version=2, deployment="dep-a"),
    ),
)


def test_a_desired_state_survives_the_wire() -> None:
    assert messages.decode(Desired, messages.encode(DESIRED)) == DESIRED


def test_a_report_survives_the_wire() -> None:
    report = Reported(
        device="dev-1",
        generation=7,
        at=2.0,
        modules=(
            ModuleReport(
                name="digits",
                phase=Phase.FAILED,
                bundle=DIGEST,
                model="digits",
                version=2,
                deployment="dep-a",
                since=1.0,
                reason="check: output 'label' differs",
            ),
        ),
        facts={"arch": "x86_64"},
    )

    assert messages.decode(Reported, messages.encode(report)) == report


def test_a_field_from_a_newer_registry_is_ignored() -> None:
    newer = msgspec.json.decode(messages.encode(DESIRED)) | {"colour": "blue"}

    assert messages.decode(Desired, msgspec.json.encode(newer)) == DESIRED


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"\xff\xfe", b'{"device": 3}', b'{"device":"a","generation":"x"}']
)
def test_a_payload_that_is_no_message_is_refused(payload: bytes) -> None:
    with pytest.raises(errors.InvalidError, match="Desired"):
        messages.decode(Desired, payload)


def test_the_refusal_names_the_field() -> None:
    payload = b'{"device":"a","generation":"x","issued_at":0}'

    with pytest.raises(errors.InvalidError, match=r"\$\.generation"):
        messages.decode(Desired, payload)


def test_a_payload_over_the_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(errors.InvalidError, match="at most"):
        messages.decode(Desired, b"[" * (messages.MAX_MESSAGE_BYTES + 1))


def test_a_payload_that_nests_too_deep_is_refused() -> None:
    deep = b'{"newer":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

    with pytest.raises(errors.InvalidError, match="recursion"):
        messages.decode(Desired, deep)


def test_canonical_json_has_one_spelling() -> None:
    assert messages.canonical_json({"b": 1, "a": {"d": [1.0], "c": "ü"}}) == (
        '{"a":{"c":"ü","d":[1.0]},"b":1}'.encode()
    )
