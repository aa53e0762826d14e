import json

from cloud.releasing import report
from cloud.releasing.report import Outcome, Report, Step

DONE = Step("register", Outcome.DONE, "digits:4", 1.25, {"version": 4})
FAILED = Step("service", Outcome.FAILED, "r2: ImagePullBackOff | no such\nimage", 9.0)


def test_a_release_is_good_when_every_step_is_done_or_was_so() -> None:
    unchanged = Step("devices", Outcome.UNCHANGED, "12 devices run it")

    assert Report("digits:4", (DONE, unchanged)).ok
    assert not Report("digits:4", (DONE, FAILED)).ok
    assert Report("digits:4", (DONE, FAILED)).failed is FAILED


def test_the_summary_is_a_table_that_no_text_breaks() -> None:
    steps = (DONE, FAILED, *report.skipped(["devices"]))
    text = report.markdown(Report("digits:4", steps))

    assert text.startswith("## digits:4: **not released**")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(steps)
    assert all(row.replace("\\|", "").count("|") == 5 for row in rows)


def test_scripts_read_the_same() -> None:
    plain = json.loads(report.as_json(Report("digits:4", (DONE, FAILED))))

    assert plain["ok"] is False
    assert [step["outcome"] for step in plain["steps"]] == ["done", "failed"]
    assert plain["steps"][0]["facts"] == {"version": 4}
