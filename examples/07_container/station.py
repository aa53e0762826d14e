"""What runs in the container: a made-up weather station that answers over HTTP.

GET /    one more reading, in $UNIT; how many there were is kept in /data, whatever version ran
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

COUNT = Path("/data/count")
UNITS = {"celsius": lambda kelvin: kelvin - 273.15, "kelvin": lambda kelvin: kelvin}


class Station(BaseHTTPRequestHandler):
    """Answers with the next reading."""

    def do_GET(self) -> None:
        """Read the thermometer once, but not for who only asks whether it is ready."""
        count = int(COUNT.read_text()) if COUNT.exists() else 0
        if self.path == "/":
            count += 1
            COUNT.write_text(str(count))
        value = UNITS[os.environ["UNIT"]](290.0 + count % 7)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"reading {count}: {value:.2f} {os.environ['UNIT']}\n".encode())

    def log_message(self, *_said: object) -> None:
        """Say nothing of each request."""


if __name__ == "__main__":
    if os.environ["UNIT"] not in UNITS:
        sys.exit(f"no unit {os.environ['UNIT']}: use {' or '.join(UNITS)}")
    print(f"reads in {os.environ['UNIT']}")
    HTTPServer(("", 8080), Station).serve_forever()
