"""`packhorse-runtime serve`: answer for models over HTTP and gRPC."""

import argparse
import gc
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Serve models over the Open Inference Protocol v2 (HTTP, and gRPC with --grpc-port), and as plain
tables at /score. A PATH is a bundle's directory, a directory with .index.json, a .tar of `packhorse
models export`, or a .onnx file; NAME:VERSION=PATH calls it so.
"""
EPILOG = """\
Beyond this machine (--host other than loopback) it listens only with --api-key-file, or with
--insecure: containers of a service say that, since a gateway stands before them.
/v2/health/live and /ready are answered without a key.
"""


def add(commands: Any) -> None:
    """Add the arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve", help="serve models", description=DESCRIPTION, epilog=EPILOG
    )
    put = parser.add_argument
    put("paths", nargs="*", metavar="PATH", help="what to serve")
    put("--repository", type=Path, metavar="DIR", help="directory that holds NAME/VERSION/…")
    put("--all-versions", action="store_true", help="of the repository, not only the newest")
    put("--repository-api", action="store_true", help="let clients load and unload its models")
    put("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    put("--http-port", type=int, metavar="N", help="0 takes a free one (8080; none with --uds)")
    put("--grpc-port", type=int, metavar="N", help="serve gRPC too; 0 takes a free port")
    put("--uds", type=Path, metavar="PATH", help="listen at a Unix socket, HTTP alone")
    put("--api-key-file", type=Path, metavar="FILE", help="requests must bring this key (Bearer)")
    put("--insecure", action="store_true", help="listen beyond this machine without a key")
    put("--max-body-mb", type=float, default=64, metavar="MB", help="of one request (64)")
    put(
        "--queue", type=int, default=256, metavar="N", help="requests that may wait, by model (256)"
    )
    put("--timeout", type=float, metavar="S", help="of requests that say none themselves (none)")
    put("--drain-s", type=float, default=30, metavar="S", help="for the last answers (30)")
    put("--drain-delay-s", type=float, default=0, metavar="S", help="go on listening so long (0)")
    put("--capture", type=Path, metavar="DIR", help="keep records of predictions there")
    put("--capture-fraction", type=float, default=0, metavar="F", help="with inputs, 0 to 1 (0)")
    put("--allow", action="append", metavar="WHAT", help="entry-script, pickle or nothing")
    put("--access-log", type=float, default=0, metavar="F", help="log this share of requests (0)")
    put("--log-format", choices=("json", "text"), default="text", help="of the log (text)")
    put("--log-level", choices=("debug", "info", "warning", "error"), default="info")


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to end; return the exit code."""
    # What is made while we start stays, and looking through it again and again takes a fifth of the
    # time until we are ready. runtime.serving.process puts it aside, and starts the collector then.
    gc.disable()
    try:
        return _serve(arguments)
    finally:
        gc.enable()


def _serve(arguments: argparse.Namespace) -> int:
    # Lazily: numpy and onnxruntime take a while, and --help does not need them.
    import uvloop  # noqa: PLC0415

    from runtime import logs  # noqa: PLC0415
    from runtime.serving.codec import forking  # noqa: PLC0415

    logs.set_up(
        form="json" if arguments.log_format == "json" else "plain", level=arguments.log_level
    )
    settings = _settings(arguments)
    # Now, that it shares what is imported, and has nothing of what comes.
    started = forking.fork()
    from runtime.serving import process  # noqa: PLC0415

    return uvloop.run(process.serve(settings, started))


def _settings(arguments: argparse.Namespace) -> Any:
    from runtime.bundle import policy  # noqa: PLC0415
    from runtime.serving import settings  # noqa: PLC0415
    from runtime.serving.wire.limits import MIB  # noqa: PLC0415

    key, port = arguments.api_key_file, arguments.http_port
    if port is None and arguments.uds is None:
        port = settings.Settings.http_port
    return settings.require(
        settings.Settings(
            paths=tuple(arguments.paths),
            repository=arguments.repository,
            all_versions=arguments.all_versions,
            repository_api=arguments.repository_api,
            host=arguments.host,
            http_port=port,
            grpc_port=arguments.grpc_port,
            uds=arguments.uds,
            api_key=None if key is None else settings.read_key(key),
            insecure=arguments.insecure,
            max_body_bytes=int(arguments.max_body_mb * MIB),
            queue=arguments.queue,
            timeout_s=arguments.timeout,
            drain_s=arguments.drain_s,
            drain_delay_s=arguments.drain_delay_s,
            capture=arguments.capture,
            capture_fraction=arguments.capture_fraction,
            allow=policy.parse(arguments.allow or policy.DEFAULT, "--allow"),
            access_log=arguments.access_log,
        )
    )
