"""`packhorse-runtime gateway`: stand before a service's revisions.

The libraries are imported when the command runs, so that the help of the others stays quick.
"""

import argparse
import sys
from pathlib import Path

from runtime import logs


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
    take("--http-port", type=int, default=8080, help="0: any (default: %(default)s)")
    take("--grpc-port", type=int, help="0: any (default: no gRPC)")
    take("--admin-host", default="127.0.0.1", help="address of the admin port: never publish it")
    take("--admin-port", type=int, default=9090, help="status, metrics (default: %(default)s)")
    take("--status-file", type=Path, metavar="FILE", help="write the status there too")
    take("--capture", type=Path, metavar="DIR", help="keep what the file says to capture there")
    take("--drain-s", type=float, default=3.0, help="requests taken after SIGTERM, in seconds")
    take("--reuse-port", action="store_true", help="let another gateway take the same ports over")
    take("--log-format", choices=("plain", "json"), default="plain")


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    import uvloop  # noqa: PLC0415 - see above

    from runtime.gateway.process import Gateway, Options  # noqa: PLC0415 - see above

    logs.set_up(form=arguments.log_format)
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
