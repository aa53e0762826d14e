"""Write three versions of one bundle: the image is the same, what it is told differs.

Usage: python bundles.py IMAGE@sha256:DIGEST PORT
"""

import sys
from pathlib import Path

BUNDLE = """name: station
kind: container
start: stop-then-start          # two versions cannot hold one port
container:
  image: {image}
  environment: {{UNIT: {unit}}}
  ports: [{{host: {port}, port: 8080}}]
  volumes: [{{name: readings, path: /data}}]
  resources: {{memory_mb: 64}}
  health: {{http: {{port: 8080, path: /ready}}, interval_s: 1}}
  stop_s: 1
"""


def main() -> None:
    """Write work/station-1 to work/station-3; the last one has a mistake in it."""
    image, port = sys.argv[1:]
    for number, unit in enumerate(("kelvin", "celsius", "celcius"), 1):
        directory = Path(f"work/station-{number}")
        directory.mkdir(parents=True, exist_ok=True)
        text = BUNDLE.format(image=image, unit=unit, port=port)
        (directory / "bundle.yaml").write_text(text)


if __name__ == "__main__":
    main()
