"""Read records (one JSON object a line) and print how often each version was right.

Usage: `packhorse telemetry tail --model digits --no-follow --json -n 1000 | python accuracy.py`
"""

import csv
import json
import sys
from collections import Counter
from pathlib import Path


def main() -> None:
    """Compare records on standard input with work/labels.csv."""
    with Path("work/labels.csv").open(newline="") as file:
        truth = {name: int(label) for name, label in csv.reader(file)}
    seen: Counter[int] = Counter()
    right: Counter[int] = Counter()
    for record in map(json.loads, sys.stdin):
        if record["item"] in truth:
            seen[record["version"]] += 1
            right[record["version"]] += record["outputs"]["label"] == [truth[record["item"]]]
    for version in sorted(seen):
        share = right[version] / seen[version]
        print(f"version {version}: {right[version]} of {seen[version]} right ({share:.1%})")


if __name__ == "__main__":
    main()
