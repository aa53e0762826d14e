"""Fail if a test report has skipped tests: in CI every part is there, so nothing may be skipped.

Usage: `python scripts/fail_on_skips.py REPORT.xml...`
"""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def skipped(report: Path) -> list[str]:
    """Return "test: why" for each skipped test of a JUnit report; fail if it has no test."""
    root = ET.parse(report).getroot()  # noqa: S314 - our own pytest wrote it
    cases = list(root.iter("testcase"))
    if not cases:
        raise SystemExit(f"{report}: no test ran")
    return [
        f"{case.get('classname')}.{case.get('name')}: {reason.get('message')}"
        for case in cases
        for reason in case.iter("skipped")
    ]


def main(reports: list[str]) -> None:
    """Print what was skipped; exit 1 if anything was."""
    found = [line for report in reports for line in skipped(Path(report))]
    for line in found:
        print(f"skipped: {line}")
    if found:
        raise SystemExit(1)
    print(f"no test was skipped in {len(reports)} report(s)")


if __name__ == "__main__":
    main(sys.argv[1:])
