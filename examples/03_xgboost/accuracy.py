"""Read a device's answer and print how good it is.

Usage: `packhorse-agent predict diabetes work/request.json | python accuracy.py`
"""

import json
import sys
from pathlib import Path

from sklearn.metrics import r2_score


def main() -> None:
    """Compare an answer on standard input with work/truth.json."""
    truth = json.loads(Path("work/truth.json").read_text())
    answer = json.load(sys.stdin)
    here = r2_score(truth["progression"], answer["outputs"][0]["data"])
    print(f"version {answer['model_version']}: R2 {here:.4f} here, {truth['r2']:.4f} where trained")


if __name__ == "__main__":
    main()
