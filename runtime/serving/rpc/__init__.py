"""The protocol over gRPC."""

import os

# gRPC's own handling of fork(2) begins a thread in the child, which closes descriptors before exec:
# one process of a script in a hundred then crashed or hung (grpc/grpc#43055). Read at its import.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
