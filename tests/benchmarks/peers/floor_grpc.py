"""The floor of gRPC: grpc.aio on uvloop, which decodes nothing and says one fixed thing.

Arguments: PORT, FILE with the answer.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop

ANSWER = Path(sys.argv[2]).read_bytes()


async def infer(_request: bytes, _context: Any) -> bytes:
    """Answer."""
    return ANSWER


async def main() -> None:
    """Serve for ever."""
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(infer)
    handler = grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService", {"ModelInfer": method}
    )
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    await server.wait_for_termination()


uvloop.install()
asyncio.run(main())
