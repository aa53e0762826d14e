"""`packhorse-runtime gateway`: stand before a service's revisions.

The libraries are imported when the command runs, so that the help of the others stays quick.
"""

import argparse
import sys
from pathlib import Path

from runtime import limits, logs

MAX_PORT = 65_535
MAX_DRAIN_S = 3600.0


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "gateway",
        help="stand before a service's revisions",
        description="Share a service's requests among its revisions as a file says.",
    )
    take = parser.add_argument
    take("--config", type=Path, required=True, metavar="FILE", help="followed while it runs")
    take("--host", default="127.0.0.1", help="address for clients (default: %(default)s)")
    take("--http-port", type=_port, default=8080, help="0: any (default: %(default)s)")
    take("--grpc-port", type=_port, help="0: any (default: no gRPC)")
    take("--admin-host", default="127.0.0.1", help="address of the admin port: never publish it")
    take("--admin-port", type=_port, default=9090, help="status, metrics (default: %(default)s)")
    take("--status-file", type=Path, metavar="FILE", help="write the status there too")
    take("--capture", type=Path, metavar="DIR", help="keep what the file says to capture there")
    take("--drain-s", type=_seconds, default=3.0, help="requests taken after SIGTERM, in seconds")
    take("--reuse-port", action="store_true", help="let another gateway take the same ports over")
    take("--log-format", choices=("json", "text"), default="text")


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text}: use 0 to {MAX_PORT}")
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= MAX_DRAIN_S:
        raise argparse.ArgumentTypeError(f"{text}: use 0 to {MAX_DRAIN_S:g}")
    return seconds


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    import uvloop  # noqa: PLC0415 - see above

    from runtime.gateway.process import Gateway, Options  # noqa: PLC0415 - see above

    limits.raise_files()  # each client costs two
    logs.set_up(form="json" if arguments.log_format == "json" else "plain")
    taken = {
        name: value for name, value in vars(arguments).items() if name in Options.__annotations__
    }
    options = Options(**taken)

    async def serve() -> None:
        gateway = Gateway(options)

        def tell() -> None:
            grpc = f" grpc://{options.host}:{gateway.rpc.port}," if gateway.rpc else ""
            sys.stdout.write(
                f"Gateway at http://{options.host}:{gateway.front.port},{grpc}"
                f" admin at http://{options.admin_host}:{gateway.admin.port}\n"
            )
            sys.stdout.flush()

        await gateway.run(tell)

    uvloop.run(serve())
    return 0
