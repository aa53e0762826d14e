import importlib.metadata

import pytest

from runtime import __main__ as program


def test_the_version_is_a_result_and_so_on_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr() == (f"{importlib.metadata.version('packhorse')}\n", "")
