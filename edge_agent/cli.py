"""`packhorse-agent`: what a person or a service manager does with a device.

Exit codes: 0 done, 1 it did not work, 2 it cannot work as asked, 3 no agent is running.
"""

import argparse
import contextlib
import os
import pwd
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_agent import facts, registrylogin, settings
from edge_agent.errors import NotEnrolledError, NotRunningError
from edge_agent.host import cli as host_cli
from runtime.errors import InUseError, InvalidError, PackhorseError
from runtime.versionflag import VersionFlag

FAILED, BAD_INPUT, NOT_RUNNING = 1, 2, 3
MAX_INPUT_BYTES = 64 * 1024 * 1024
MAX_TOKEN_BYTES = 4096
OK = 200
_MODULE = re.compile(r"[a-z0-9-]{1,63}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code. Errors are one line on stderr."""
    chosen = _parser().parse_args(arguments)
    try:
        code: int = chosen.command(chosen)
    except (InvalidError, NotEnrolledError, InUseError) as error:
        return _fail(error, BAD_INPUT)
    except NotRunningError as error:
        return _fail(error, NOT_RUNNING)
    except PermissionError as error:
        return _fail(_forbidden(error), FAILED)
    except (PackhorseError, OSError) as error:
        return _fail(error, FAILED)
    except KeyboardInterrupt:
        return 130
    return code


def _forbidden(error: PermissionError) -> PackhorseError:
    """Return what to do about a file that this user may not use."""
    path = Path(os.fsdecode(error.filename or "."))
    there = next((each for each in (path, *path.absolute().parents) if _is_there(each)), Path("/"))
    uid = there.stat().st_uid
    with contextlib.suppress(KeyError):
        owner = pwd.getpwuid(uid).pw_name
        return PackhorseError(f"{path}: not for this user: run it as {owner}, or with sudo")
    return PackhorseError(f"{path}: not for this user: run it as user {uid}, or with sudo")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False


def _fail(error: Exception, code: int) -> int:
    print(f"packhorse-agent: {error}", file=sys.stderr)  # noqa: T201 - a command line's answer
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="packhorse-agent", description="Runs models on this device, as the registry wants."
    )
    parser.add_argument("--version", action=VersionFlag, tell=facts.agent_version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    enrol = _command(commands, "enrol", _enrol, "make this device known to a registry")
    enrol.add_argument("--url", required=True, help="the registry, https://host:port")
    token = enrol.add_mutually_exclusive_group()
    token.add_argument("--token", help="from `packhorse devices token` (visible to `ps`)")
    token.add_argument("--token-file", type=Path, help="a file that holds it; - is stdin")
    enrol.add_argument("--id", help="the device's name; default: the token's, or made up")
    enrol.add_argument("--force", action="store_true", help="even if it is enrolled already")
    run = _command(commands, "run", _run, "run the agent until SIGTERM")
    run.add_argument("--config", type=Path, help="settings; default: DATA/agent.toml")
    status = _command(commands, "status", _status, "show what runs here, and why not more")
    status.add_argument("--json", action="store_true", help="as one JSON object")
    predict = _command(commands, "predict", _predict, "ask a model on this device")
    predict.add_argument("module", help="its name, see `status`")
    predict.add_argument("file", help="an inference request as JSON; - is stdin")
    apply = _command(commands, "apply", _apply, "run a version out of a file, without a registry")
    apply.add_argument("file", type=Path, help="from `packhorse models export`")
    apply.add_argument("--module", help="what it shall be here; default: the model's name")
    apply.add_argument("--version", help="MODEL or MODEL:NUMBER, if the file holds several")
    apply.add_argument("--timeout", type=float, default=600.0, help="seconds to wait until it runs")
    apply.add_argument("--no-wait", action="store_true", help="do not wait until it runs")
    registrylogin.add_arguments(
        _command(commands, "registry-login", registrylogin.run, "log in to an image registry")
    )
    doctor = _command(commands, "doctor", _doctor, "look for what is wrong, and say what to do")
    doctor.add_argument("--json", action="store_true", help="as one JSON object")
    host_cli.add(commands, _command)
    _command(commands, "version", _version, "print the version")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: object,
    purpose: str,
) -> argparse.ArgumentParser:
    made = commands.add_parser(name, help=purpose, description=purpose)
    default = os.environ.get("PACKHORSE_AGENT_DATA") or settings.default_data(
        Path.home(), root=os.geteuid() == 0
    )
    made.add_argument(
        "--data", type=Path, default=Path(default), help="the agent's directory (%(default)s)"
    )
    made.set_defaults(command=run)
    return made


def _enrol(chosen: argparse.Namespace) -> int:
    from edge_agent import enrol  # noqa: PLC0415 - each command loads what it needs
    from runtime import datalock  # noqa: PLC0415

    with datalock.held(chosen.data, mode=0o750):
        identity = enrol.enrol(
            chosen.data,
            url=chosen.url,
            token=_token(chosen),
            device_id=chosen.id,
            facts=facts.collect(),
            force=chosen.force,
        )
    _print(f"enrolled as {identity.device}: now `packhorse-agent run --data {chosen.data}`")
    return 0


def _token(chosen: argparse.Namespace) -> str:
    if chosen.token:
        return str(chosen.token)
    if chosen.token_file is not None:
        return _read(str(chosen.token_file), MAX_TOKEN_BYTES).decode("ascii", "replace").strip()
    if text := os.environ.get("PACKHORSE_AGENT_TOKEN"):
        return text
    raise InvalidError("token", None, "give --token, --token-file or PACKHORSE_AGENT_TOKEN")


def _run(chosen: argparse.Namespace) -> int:
    from edge_agent import process  # noqa: PLC0415 - as above

    process.run(chosen.data, chosen.config)
    return 0


def _status(chosen: argparse.Namespace) -> int:
    from edge_agent import overview  # noqa: PLC0415 - as above

    shown, running = overview.show(chosen.data, as_json=chosen.json)
    _print(shown)
    return 0 if running else NOT_RUNNING


def _predict(chosen: argparse.Namespace) -> int:
    from edge_agent import predict  # noqa: PLC0415 - as above

    if not _MODULE.fullmatch(chosen.module):
        raise InvalidError("module", chosen.module, "use 1 to 63 of a-z, 0-9 and '-'")
    body = _read(chosen.file, MAX_INPUT_BYTES)
    try:
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidError(chosen.file, body[:60], f"give one JSON object ({error})") from error
    status, answer = predict.infer(chosen.data / "run", chosen.module, body)
    _print(answer.decode("utf-8", "replace").rstrip("\n"))
    if status == OK:
        return 0
    return BAD_INPUT if status < 500 else FAILED  # noqa: PLR2004 - HTTP: the request's fault


def _apply(chosen: argparse.Namespace) -> int:
    from edge_agent import apply, outcome  # noqa: PLC0415 - as above

    answer = apply.apply(chosen.data, chosen.file, module=chosen.module, version=chosen.version)
    applied = answer.applied
    assert applied is not None, "an answer without it is an error"
    wanted = f"{applied.module}: {applied.model}:{applied.version}"
    if not answer.running:
        _print(f"{wanted} will run when the agent starts; no agent is running now")
        return 0
    if chosen.no_wait:
        _print(f"{wanted} was taken over: see `packhorse-agent status`")
        return 0
    _print(outcome.wait(chosen.data / "run", applied, timeout_s=chosen.timeout))
    return 0


def _doctor(chosen: argparse.Namespace) -> int:
    from edge_agent.doctor import examine, findings  # noqa: PLC0415 - as above

    found = examine.examine(chosen.data)
    _print(msgspec.json.encode(found).decode() if chosen.json else findings.render(found))
    return 0 if found.healthy else FAILED


def _version(_chosen: argparse.Namespace) -> int:
    _print(facts.agent_version())
    return 0


def _read(name: str, most_bytes: int) -> bytes:
    if name == "-":
        data = sys.stdin.buffer.read(most_bytes + 1)
    else:
        try:
            with Path(name).open("rb") as file:
                data = file.read(most_bytes + 1)
        except OSError as error:
            raise InvalidError("file", name, f"{error.strerror}") from error
    if len(data) > most_bytes:
        raise InvalidError("file", name, f"give at most {most_bytes} bytes")
    return data


def _print(text: str) -> None:
    print(text)  # noqa: T201 - a command line's answer
