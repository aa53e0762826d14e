from runtime.errors import InvalidError


def test_an_invalid_value_is_shown_cut_with_its_field_and_the_fix() -> None:
    text = str(InvalidError("check.inputs", "x" * 500, "name a file of the bundle"))

    assert text.startswith("check.inputs: 'xxx")
    assert text.endswith("... is not accepted: name a file of the bundle")
    assert len(text) < 200
