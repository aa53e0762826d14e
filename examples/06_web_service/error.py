"""Read a service's answer to work/request.json; print which version gave it and how far it was off.

Usage: `curl … | python error.py`
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Compare an answer on standard input with work/truth.json."""
    truth = json.loads(Path("work/truth.json").read_text())
    answer = json.load(sys.stdin)
    version = answer["model_version"]
    (found,) = (each["data"] for each in answer["outputs"] if each["name"] == "progression")
    pairs = list(zip(found, truth["progression"], strict=True))
    here = sum(abs(value - true) for value, true in pairs) / len(pairs)
    trained = truth["errors"][version]
    print(f"version {version}: off by {here:.2f} here, {trained:.2f} where trained")


if __name__ == "__main__":
    main()
