"""`packhorse rollouts`: list, show, pause, resume, approve, promote, cancel, revert, rollback."""

from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import login, output, words
from cloud.cli.output import JsonFlag

if TYPE_CHECKING:
    from cloud import shapes
    from cloud.client import Client

app = typer.Typer(
    no_args_is_help=True, help="Look at rollouts; pause, approve, revert them, go back."
)

Id = Annotated[str, typer.Argument(metavar="ROLLOUT")]
Note = Annotated[str, typer.Option(help="Why; kept with who and when.")]


@app.command("list")
def list_rollouts(
    number: Annotated[int, typer.Option("-n", min=1, help="How many, newest first.")] = 20,
    *,
    json: JsonFlag = False,
) -> None:
    """List rollouts, newest first."""
    import itertools

    with login.client() as registry:
        found = list(itertools.islice(registry.rollouts(), number))
    if json:
        output.as_json(found)
        return
    rows = [
        (
            each.id,
            each.name,
            each.state,
            _where(each, "{}/{} {}"),
            _counts(each),
            output.moment(each.created_at),
            "; ".join(filter(None, (each.reason, *(t.reason for t in each.troubles)))),
        )
        for each in found
    ]
    columns = ("rollout", "name", "state", "wave", "devices", "made", "reason")
    output.show(columns, rows, none="No rollouts yet: `packhorse deploy -f FILE` makes one.")


@app.command()
def show(
    rollout: Id,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Wait until it is over or complete.")
    ] = False,
    timeout: Annotated[str, typer.Option(help="How long --watch waits.")] = "1h",
    json: JsonFlag = False,
) -> None:
    """Say where a rollout is, what holds it up, and how each device stands.

    With --watch: exit code 0 when it is complete, 1 when it ended otherwise, 4 when time is over.
    """
    with login.client() as registry:
        if watch:
            detail = wait(registry, rollout, timeout_s=words.duration(timeout, "timeout"))
        else:
            detail = registry.rollout(rollout)
    output.as_json(detail) if json else _print(detail)
    if watch:
        raise_unless_complete(detail)


@app.command()
def pause(rollout: Id, *, note: Note = "", json: JsonFlag = False) -> None:
    """Let no more devices in; what is under way goes on, and may still abort."""
    _order(rollout, "pause", note, json=json)


@app.command()
def resume(rollout: Id, *, note: Note = "", json: JsonFlag = False) -> None:
    """Go on with a paused rollout."""
    _order(rollout, "resume", note, json=json)


@app.command()
def approve(rollout: Id, *, note: Note = "", json: JsonFlag = False) -> None:
    """Let the next wave that waits for it begin."""
    _order(rollout, "approve", note, json=json)


@app.command()
def promote(rollout: Id, *, note: Note = "", json: JsonFlag = False) -> None:
    """Go on to the next wave at once: gate and soak of the present one are passed over."""
    _order(rollout, "promote", note, json=json)


@app.command()
def cancel(rollout: Id, *, note: Note = "", json: JsonFlag = False) -> None:
    """End a rollout; devices that have it keep it."""
    _order(rollout, "cancel", note, json=json)


@app.command()
def revert(rollout: Id, *, note: Note = "", json: JsonFlag = False) -> None:
    """Give every device that was changed what it ran before, within the budget."""
    _order(rollout, "revert", note, json=json)


@app.command()
def rollback(
    to: Annotated[
        str, typer.Option("--to", metavar="DEPLOYMENT", help="An earlier rollout or deployment.")
    ],
    *,
    json: JsonFlag = False,
) -> None:
    """Roll out once more, with the same strategy, the versions that an earlier one brought."""
    with login.client() as registry:
        made = registry.roll_back(to)
    output.as_json(made) if json else output.result(made.id)


def _order(rollout: str, order: str, note: str, *, json: bool) -> None:
    from cloud import shapes

    with login.client() as registry:
        made = registry.order_rollout(rollout, shapes.Order.make(order=order, note=note))
    if json:
        output.as_json(made)
    elif order in {"approve", "promote"}:
        output.result(f"{made.id}: wave {made.approvals[-1].wave + 1}: {order}d")
    else:
        output.result(f"{made.id}: {made.state}")


def wait(registry: "Client", rollout: str, *, timeout_s: float) -> "shapes.RolloutDetail":
    """Tell how a rollout comes on until nothing more comes of it, or the time is over."""
    import threading
    import time

    deadline, tick, told = time.monotonic() + timeout_s, threading.Event(), ""
    while True:
        detail = registry.rollout(rollout)
        text = summary(detail)
        if text != told:
            output.say(output.plain(text))
            told = text
        left = deadline - time.monotonic()
        if detail.rollout.state not in {"running", "paused", "reverting"} or left <= 0:
            return detail
        tick.wait(min(1.0, left))


def raise_unless_complete(detail: "shapes.RolloutDetail") -> None:
    """Raise GaveUpError if a rollout ended before all had it, WaitError if it goes on."""
    from cloud.errors import GaveUpError, WaitError

    made = detail.rollout
    if made.state in {"running", "paused", "reverting"}:
        raise WaitError(f"rollout: {made.id} is {made.state}: {'; '.join(detail.blocked)}")
    if made.state != "complete":
        raise GaveUpError(f"rollout: {made.id} is {made.state}: {made.reason}")


def summary(detail: "shapes.RolloutDetail") -> str:
    """Return where a rollout is, in one line."""
    made = detail.rollout
    where = ", ".join(filter(None, (made.state, _where(made, "wave {} of {} {}"))))
    reason = f" ({made.reason})" if made.reason else ""
    return f"{made.id}: {where}: {_counts(made) or 'no device matches yet'}{reason}"


def _where(made: "shapes.Rollout", form: str) -> str:
    """Return its wave, or nothing when no wave is under way."""
    moving = made.state in {"running", "paused"}
    return form.format(made.wave + 1, made.waves, made.step) if moving else ""


def _counts(made: "shapes.Rollout") -> str:
    return ", ".join(f"{count} {standing}" for standing, count in sorted(made.counts.items()))


def _print(detail: "shapes.RolloutDetail") -> None:
    import time

    made = detail.rollout
    modules = ", ".join(f"{each.model}:{each.version}" for each in made.modules)
    output.result(f"{made.name}: {modules} to {made.target}, priority {made.priority}")
    output.result(output.plain(f"{summary(detail)}; for {time.time() - made.since:.0f} s"))
    for each in made.approvals:
        when = output.moment(each.at)
        output.result(f"wave {each.wave + 1}: {each.kind}d by {each.by} at {when}")
    for sentence in detail.blocked:
        output.result(output.plain(f"waits: {sentence}"))
    rows = [
        (
            each.device,
            "" if each.wave is None else str(each.wave + 1),
            each.standing,
            output.moment(each.since),
            each.reason,
        )
        for each in detail.devices
    ]
    output.show(("device", "wave", "standing", "since", "reason"), rows, none="No device matches.")
