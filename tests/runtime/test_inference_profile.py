"""Profiles: what is tried, what comes out, what is advised."""

from pathlib import Path

import pytest

from runtime.bundle.build import build
from runtime.bundle.index import Batching
from runtime.errors import InvalidError, ModelError
from runtime.inference import advice, profile
from runtime.inference.profile import Measurement, Setting
from tests.support import models, scripts


def measured(threads: int, rows: int, p50_ms: float, rows_s: float, **more: object) -> Measurement:
    fields = {
        "setting": Setting(threads, rows, 1), "rows": rows, "runs": 100, "p50_ms": p50_ms,
        "p95_ms": p50_ms, "p99_ms": p50_ms, "rows_s": rows_s, "memory_mb": 100.0 + rows,
    }  # fmt: skip
    return Measurement(**(fields | more))  # type: ignore[arg-type] # as each test says


def test_the_fewest_threads_that_are_nearly_as_good_are_advised() -> None:
    given = [measured(1, 1, 5, 200), measured(2, 1, 3, 330), measured(4, 1, 2.6, 380)]

    assert advice.advise(given).cpu == 2


def test_a_quick_model_gets_one_thread_and_no_batches() -> None:
    given = [measured(1, 1, 0.01, 90_000), measured(2, 1, 0.01, 150_000), measured(1, 8, 0.01, 9e5)]

    advised = advice.advise(given)

    assert (advised.cpu, advised.batching) == (1, None)


def test_batches_are_advised_where_they_pay_and_of_no_more_rows_than_pay() -> None:
    given = [measured(1, 1, 4, 250), measured(1, 8, 8, 1000), measured(1, 32, 30, 1060)]

    advised = advice.advise(given)

    assert advised.batching == Batching(max_size=8)
    assert advised.memory_mb == 160  # of the settings up to 8 rows, and a quarter more


def test_batches_that_give_little_are_not_advised() -> None:
    given = [measured(1, 1, 4, 250), measured(1, 8, 33, 240)]

    assert advice.advise(given).batching is None


def test_settings_that_failed_count_for_nothing() -> None:
    given = [measured(1, 1, 4, 250), measured(2, 1, 0, 0, error="out of memory")]

    assert advice.advise(given).cpu == 1


def test_what_is_tried_follows_the_model_unless_somebody_says_so(tmp_path: Path) -> None:
    any_rows = models.install(tmp_path / "any", models.linear_model())
    fixed = models.install(tmp_path / "fixed", models.slow_model(8, rounds=1))

    assert {each.rows for each in profile.settings(any_rows)} == {1, 8, 32}
    assert {each.rows for each in profile.settings(fixed)} == {0}
    assert profile.settings(any_rows, threads=[3], rows=[5], callers=[2]) == [Setting(3, 5, 2)]
    with pytest.raises(InvalidError, match="--batches"):
        profile.settings(fixed, rows=[8])
    with pytest.raises(InvalidError, match="--threads: 0 is not accepted"):
        profile.settings(any_rows, threads=[0])


def test_each_setting_is_measured(tmp_path: Path) -> None:
    index = models.install(tmp_path, models.linear_model())
    wanted = [Setting(1, 1, 1), Setting(2, 8, 2)]
    steps: list[int] = []

    found = list(
        profile.measure_all(tmp_path, index, wanted, seconds=0.05, done=lambda: steps.append(1))
    )

    assert [each.setting for each in found] == wanted
    assert len(steps) == 2
    for each in found:
        assert each.error == ""
        assert 0 < each.p50_ms <= each.p95_ms <= each.p99_ms
        assert each.rows_s > each.rows
        assert 20 < each.memory_mb < 2000


def test_a_script_that_ends_its_process_fails_its_setting_alone(tmp_path: Path) -> None:
    script = """
import os
def run(inputs):
    print("not a measurement")
    if len(inputs["x"]) == 3:
        os._exit(9)
    return {"y": inputs["x"].sum(axis=1)}
"""
    scripts.write(tmp_path, script=script, yaml=scripts.SIGNATURE)
    index = build(tmp_path).index
    wanted = [Setting(1, 3, 1), Setting(1, 2, 1)]

    failed, worked = profile.measure_all(tmp_path, index, wanted, seconds=0.05)

    assert "its process ended (9)" in failed.error
    assert worked.runs > 0


def test_a_model_that_never_works_is_an_error(tmp_path: Path) -> None:
    index = models.install(tmp_path, models.reshape_model())

    with pytest.raises(ModelError, match="fails on this input"):
        list(profile.measure_all(tmp_path, index, [Setting(1, 1, 1)], seconds=0.05))
