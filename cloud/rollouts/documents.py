"""A deployment document as the values that decisions are made of, and what may not be in one."""

import contextlib
from collections.abc import Iterator, Sequence

from cloud import references, shapes
from cloud.registry import deployments, selectors
from cloud.registry.candidates import CandidateWish
from cloud.registry.deployments import Wish
from cloud.registry.downloads import Download
from cloud.rollouts import windows
from cloud.rollouts.strategy import Budget, Strategy, Wave, Window
from runtime import messages, topics
from runtime.candidates import Gate, Mode, Promote
from runtime.errors import InvalidError

WHOLE = 100.0


def strategy(document: shapes.DeploymentDocument) -> Strategy:
    """Return the strategy of a document; the wave that takes the rest is added to its own."""
    given = document.strategy
    failures = given.abort.failures
    return Strategy(
        waves=(*(_wave(given, each) for each in given.waves), _wave(given, None)),
        device_timeout_s=given.device_timeout_s,
        retries=given.retry.most,
        backoff_s=given.retry.backoff_s,
        budget=_budget(given.budget),
        update=_windows(given.windows.update),
        download=_windows(given.windows.download),
        most_failures=failures if isinstance(failures, int) else None,
        failure_rate=float(failures),
        least=given.abort.least,
        after_s=given.abort.after_s,
        silence_s=given.abort.silence_s,
        reverts=given.on_abort == "revert",
    )


def _wave(given: shapes.Strategy, wave: shapes.Wave | None) -> Wave:
    own = wave or shapes.Wave(count=1)
    return Wave(
        gate=given.gate if own.gate is None else own.gate,
        soak_s=given.soak_s if own.soak_s is None else own.soak_s,
        timeout_s=given.wave_timeout_s if own.timeout_s is None else own.timeout_s,
        count=None if wave is None else wave.count,
        percent=own.percent,
        selector=own.selector,
        approve=own.approve,
    )


def _budget(given: shapes.Budget | None) -> Budget | None:
    if given is None:
        return None
    if isinstance(given.max_unavailable, int):
        return Budget(most=given.max_unavailable, by=given.by)
    return Budget(fraction=float(given.max_unavailable.rstrip("%")) / 100, by=given.by)


def _windows(given: list[shapes.Window]) -> tuple[Window, ...]:
    return tuple(Window(each.cron, each.zone, each.for_s) for each in given)


def wishes(document: shapes.DeploymentDocument) -> list[Wish]:
    """Return what a document wants of devices, module by module in the order of their names."""
    made = []
    for module, wanted in sorted(document.modules.items()):
        reference = references.parse(wanted.model, f"modules.{module}.model")
        made.append(
            Wish(
                model=reference.name,
                version=reference.version,
                selector=document.target,
                module=topics.device_id(module, "module"),
                sources=None if wanted.sources is None else tuple(wanted.sources),
                capture=messages.Capture(
                    outputs=wanted.capture.outputs, inputs=wanted.capture.inputs
                ),
                soak_s=wanted.soak_s,
                name=document.name,
                candidate=_beside(wanted.candidate, f"modules.{module}.candidate"),
                download=Download(**wanted.download.model_dump()),
            )
        )
    return made


def _beside(given: shapes.ModuleCandidate | None, field: str) -> CandidateWish | None:
    if given is None:
        return None
    named = references.parse(given.model, f"{field}.model")
    return candidate(given, named.name, named.version)


def candidate(rules: shapes.CandidateRules, model: str, version: int | str | None) -> CandidateWish:
    """Return the wish for a candidate by these rules."""
    return CandidateWish(
        model=model,
        version=version,
        mode=Mode(rules.mode),
        fraction=rules.fraction,
        cpu=rules.cpu,
        memory_mb=rules.memory_mb,
        gate=Gate(**rules.gate.model_dump()),
        promote=Promote(rules.promote),
    )


def check(document: shapes.DeploymentDocument, *, now: float) -> None:
    """Raise InvalidError, naming the field, for what no rollout could follow."""
    for module, wanted in document.modules.items():
        _check_module(module, wanted)
    for wish in wishes(document):
        with _below(f"modules.{wish.module}"):
            deployments.check_running(wish)
    _selector(document.target, "target")
    _check_waves(document.strategy.waves)
    made = strategy(document)
    if made.budget is not None and made.budget.by is not None:
        selectors.check_key(made.budget.by, "strategy.budget.by")
    _check_windows(made, now)


def _check_module(module: str, wanted: shapes.ModuleWish) -> None:
    topics.device_id(module, "modules")
    version = references.parse(wanted.model, f"modules.{module}.model").version
    with _below(f"modules.{module}"):
        fixed = version == references.LATEST or references.number(version)
    if wanted.follow and fixed:
        fix = "name an alias, such as model@champion, or leave `follow` out"
        raise InvalidError(f"modules.{module}.follow", wanted.model, fix)


def _check_waves(waves: Sequence[shapes.Wave]) -> None:
    total = 0.0
    for number, wave in enumerate(waves):
        field = f"strategy.waves.{number}"
        if wave.selector is not None:
            _selector(wave.selector, f"{field}.selector")
        total += wave.percent or 0.0
        if total > WHOLE:
            fix = f"with the waves before it that is {total:g} % of all devices: give at most 100"
            raise InvalidError(f"{field}.percent", wave.percent, f"{fix}; the last takes the rest")


def _check_windows(made: Strategy, now: float) -> None:
    for field, listed in (("update", made.update), ("download", made.download)):
        for number, window in enumerate(listed):
            windows.check(window, f"strategy.windows.{field}.{number}")
    if not windows.meet(made.update, made.download, now):
        fix = "no update window is open while one of these is: let them overlap"
        shown = ", ".join(window.cron for window in made.download)
        raise InvalidError("strategy.windows.download", shown, fix)


def _selector(text: str, field: str) -> None:
    try:
        selectors.parse(text)
    except InvalidError as error:
        raise InvalidError(field, error.value, error.fix) from error


@contextlib.contextmanager
def _below(place: str) -> Iterator[None]:
    """Have errors name their field from the document's top."""
    try:
        yield
    except InvalidError as error:
        raise InvalidError(f"{place}.{error.field}", error.value, error.fix) from error
