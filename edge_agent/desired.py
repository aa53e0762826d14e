"""What the registry wants, read strictly: a message is taken over whole or not at all."""

import math
import re
from collections import Counter

from runtime import candidates, digests, messages
from runtime.candidates import Candidate
from runtime.errors import InvalidError
from runtime.messages import Desired, ModuleSpec

MAX_MODULES = 64
MAX_SOURCES = 32
MAX_SOURCE_CHARS = 1024
MAX_TEXT_CHARS = 128
MAX_SOAK_S = 86_400.0
MAX_NUMBER = 2**53
_NAME = re.compile(r"[a-z0-9-]{1,63}")


def read(payload: bytes, device: str) -> Desired:
    """Return the desired state in a payload; raise InvalidError naming the field that is wrong."""
    desired = messages.decode(Desired, payload)
    if desired.format > messages.FORMAT:
        fix = f"this agent reads up to {messages.FORMAT}: upgrade it"
        raise InvalidError("desired.format", desired.format, fix)
    if desired.device != device:
        raise InvalidError("desired.device", desired.device, f"this device is {device}")
    if not 0 < desired.generation < MAX_NUMBER:
        raise InvalidError("desired.generation", desired.generation, "count from 1")
    if len(desired.modules) > MAX_MODULES:
        raise InvalidError("desired.modules", len(desired.modules), f"at most {MAX_MODULES}")
    names = Counter(spec.name for spec in desired.modules)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InvalidError("desired.modules", twice, "name each module once")
    for spec in desired.modules:
        _check(spec)
    return desired


def _check(spec: ModuleSpec) -> None:
    if not _NAME.fullmatch(spec.name):
        # It becomes the name of a socket, a log and a directory.
        raise InvalidError("desired.modules.name", spec.name, "use 1 to 63 of a-z, 0-9 and '-'")
    field = f"desired.modules[{spec.name}]"
    digests.parse(spec.bundle, f"{field}.bundle")
    for name, text in (("model", spec.model), ("deployment", spec.deployment)):
        if len(text) > MAX_TEXT_CHARS:
            raise InvalidError(f"{field}.{name}", text, f"at most {MAX_TEXT_CHARS} characters")
    for name, number in (("version", spec.version), ("attempt", spec.attempt)):
        if not 0 <= number < MAX_NUMBER:
            raise InvalidError(f"{field}.{name}", number, "give 0 or more")
    if spec.candidate is not None:
        _check_candidate(f"{field}.candidate", spec.candidate)
    _within(f"{field}.soak_s", spec.soak_s, MAX_SOAK_S)
    _within(f"{field}.budget_bytes", spec.budget_bytes or 0, MAX_NUMBER)
    _within(f"{field}.not_before", spec.not_before or 0, MAX_NUMBER)
    _within(f"{field}.not_after", spec.not_after or 0, MAX_NUMBER)
    _within(f"{field}.capture.inputs", spec.capture.inputs, 1.0)
    sources = spec.sources or ()
    if len(sources) > MAX_SOURCES or any(len(source) > MAX_SOURCE_CHARS for source in sources):
        fix = f"at most {MAX_SOURCES} of {MAX_SOURCE_CHARS} characters each"
        raise InvalidError(f"{field}.sources", len(sources), fix)


def _check_candidate(field: str, candidate: Candidate) -> None:
    digests.parse(candidate.bundle, f"{field}.bundle")
    if len(candidate.model) > MAX_TEXT_CHARS:
        fix = f"at most {MAX_TEXT_CHARS} characters"
        raise InvalidError(f"{field}.model", candidate.model, fix)
    candidates.check(candidate, field)


def _within(field: str, value: float, most: float) -> None:
    if not math.isfinite(value) or not 0 <= value <= most:
        raise InvalidError(field, value, f"give 0 to {most:g}")
