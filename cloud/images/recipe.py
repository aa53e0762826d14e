"""The Dockerfile of an image: pure. It adds layers and says how they run; it runs nothing itself.

FROM base
ADD  dependencies, runtime                      the floor: also the gateway's image
ADD  requirements, each large file, the rest    a bundle's image
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HTTP_PORT, GRPC_PORT, ADMIN_PORT = 8080, 8081, 9090
UID = 65532
USER = f"{UID}:{UID}"
ROOT = "opt/packhorse"
DEPENDENCIES, RUNTIME, EXTRA = f"{ROOT}/deps", f"{ROOT}/app", f"{ROOT}/extra"
SBOM = f"{ROOT}/sbom.cdx.json"
CONFIG = "/config"
WRITABLE = ("config", "capture")
"""Where volumes are mounted that the gateway writes to."""
MAX_LABEL = 500
ENTRYPOINT = ("python3", "-m", "runtime")
SERVE = (
    *("serve", "--repository", "/models", "--host", "0.0.0.0"),  # noqa: S104 - within a container; see --insecure
    *("--http-port", str(HTTP_PORT), "--grpc-port", str(GRPC_PORT)),
    # Who may reach it is for the network of the container: it stands behind a gateway.
    "--insecure",
)
GATEWAY = (
    *("gateway", "--config", f"{CONFIG}/gateway.json", "--host", "0.0.0.0"),  # noqa: S104 - within a container; it asks for keys
    *("--http-port", str(HTTP_PORT), "--grpc-port", str(GRPC_PORT)),
    *("--admin-host", "0.0.0.0", "--admin-port", str(ADMIN_PORT)),  # noqa: S104 - never published
)


def serve(needs: Sequence[str]) -> tuple[str, ...]:
    """Return the command that serves a bundle, which may bring the code that it `needs`.

    Whoever builds an image of it has let it in.
    """
    return (*SERVE, *(word for need in needs for word in ("--allow", need)))


HEALTH = (*ENTRYPOINT, "health", "--url", f"http://127.0.0.1:{HTTP_PORT}")
_HEALTHCHECK = "HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3"
_CUDA = ("cublas", "cuda_nvrtc", "cuda_runtime", "cudnn", "cufft", "curand", "nvjitlink")


@dataclass(frozen=True)
class Recipe:
    """All that a Dockerfile says."""

    base: str
    adds: Sequence[str]
    """Names of tars in the build context, unpacked at the root, in this order."""
    labels: Mapping[str, str]
    command: Sequence[str]
    gpu: bool = False


def dockerfile(recipe: Recipe) -> str:
    """Return its text."""
    lines = [
        f"FROM {recipe.base}",
        *(f"ADD {name} /" for name in recipe.adds),
        f"ENV {_pairs(_environment(recipe.gpu))}",
        f"USER {USER}",
        "WORKDIR /",
        f"EXPOSE {HTTP_PORT} {GRPC_PORT}",
        "STOPSIGNAL SIGTERM",
        f"{_HEALTHCHECK} CMD {json.dumps(HEALTH)}",
        f"ENTRYPOINT {json.dumps(ENTRYPOINT)}",
        f"CMD {json.dumps(list(recipe.command))}",
        f"LABEL {_pairs(recipe.labels)}",
    ]
    return "\n".join(lines) + "\n"


def _environment(gpu: bool) -> dict[str, str]:  # noqa: FBT001 - it is what the recipe says
    plain = {
        "PYTHONPATH": f"/{EXTRA}:/{RUNTIME}:/{DEPENDENCIES}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "HOME": "/tmp",  # noqa: S108 - the only place in the container that can be written
    }
    if not gpu:
        return plain
    libraries = ":".join(f"/{DEPENDENCIES}/nvidia/{name}/lib" for name in _CUDA)
    return plain | {
        "LD_LIBRARY_PATH": libraries,
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    }


def _pairs(values: Mapping[str, str]) -> str:
    """Return values as one instruction's words: each instruction takes an engine 0.1 s."""
    return " ".join(f"{name}={_quoted(value)}" for name, value in sorted(values.items()) if value)


def _quoted(value: str) -> str:
    """Return one word of a Dockerfile, on one line, in which nothing is replaced."""
    plain = " ".join("".join(each if each.isprintable() else " " for each in value).split())
    escaped = plain[:MAX_LABEL].replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'
