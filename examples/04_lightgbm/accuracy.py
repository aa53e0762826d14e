"""Read a device's answer and print how often it was right.

Usage: `packhorse-agent predict tumour work/request.json | python accuracy.py`
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Compare an answer on standard input with work/truth.json."""
    truth = json.loads(Path("work/truth.json").read_text())
    answer = json.load(sys.stdin)
    benign = next(each["data"] for each in answer["outputs"] if each["name"] == "benign")
    right = [said == true for said, true in zip(benign, truth["benign"], strict=True)]
    version, here = answer["model_version"], sum(right) / len(right)
    print(f"version {version}: accuracy {here:.4f} here, {truth['accuracy']:.4f} where trained")


if __name__ == "__main__":
    main()
