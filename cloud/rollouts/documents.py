"""A deployment document as the values that decisions are made of, and what may not be in one."""

from cloud import references, shapes
from cloud.registry import deployments, selectors
from cloud.registry.deployments import Wish
from cloud.rollouts import windows
from cloud.rollouts.strategy import Budget, Strategy, Wave, Window
from runtime import messages, topics
from runtime.errors import InvalidError


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
            )
        )
    return made


def check(document: shapes.DeploymentDocument) -> None:
    """Raise InvalidError, naming the field, for what no rollout could follow."""
    for wish in wishes(document):
        deployments.check_running(wish)
    for module, wanted in document.modules.items():
        version = references.parse(wanted.model).version
        if wanted.follow and (version == references.LATEST or references.number(version)):
            fix = "name an alias, such as model@champion, or leave `follow` out"
            raise InvalidError(f"modules.{module}.follow", wanted.model, fix)
    selectors.parse(document.target)
    for wave in document.strategy.waves:
        if wave.selector is not None:
            selectors.parse(wave.selector)
    made = strategy(document)
    if made.budget is not None and made.budget.by is not None:
        selectors.check_key(made.budget.by, "strategy.budget.by")
    for field, listed in (("update", made.update), ("download", made.download)):
        for number, window in enumerate(listed):
            windows.check(window, f"strategy.windows.{field}.{number}")
