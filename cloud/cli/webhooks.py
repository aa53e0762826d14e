"""`packhorse webhooks`: add, list, show, change, test, deliveries, replay, remove."""

import itertools
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import login, output
from cloud.cli.output import JsonFlag
from cloud.errors import GaveUpError

if TYPE_CHECKING:
    from cloud import shapes

app = typer.Typer(no_args_is_help=True, help="Have URLs told of events.")

SECRET = "PACKHORSE_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
Id = Annotated[str, typer.Argument(metavar="WEBHOOK")]
Kind = Annotated[
    list[str] | None,
    typer.Option(metavar="KIND", help="Only these: deployment.created, device.*; all if none."),
]


@app.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="https://...")],
    kind: Kind = None,
    description: Annotated[str, typer.Option(help="A note for people.")] = "",
    *,
    json: JsonFlag = False,
) -> None:
    """Have a URL told of events from now on; print its id and the secret, shown only now.

    A secret of your own comes from PACKHORSE_WEBHOOK_SECRET, never from an option, where other
    users of this machine could see it.
    """
    from cloud import shapes

    wish = shapes.NewWebhook.make(
        url=url,
        kinds=kind or [],
        description=description,
        secret=os.environ.get(SECRET) or None,
    )
    with login.client() as registry:
        made = registry.add_webhook(wish)
    if json:
        output.as_json(made)
        return
    output.facts([("webhook", made.id), ("secret", made.secret)])
    output.say("The secret is shown only now; docs/specs/events.md shows how to check signatures.")


@app.command("list")
def list_webhooks(*, json: JsonFlag = False) -> None:
    """List webhooks."""
    with login.client() as registry:
        found = list(registry.webhooks())
    if json:
        output.as_json(found)
        return
    rows = [(each.id, each.url, _kinds(each), _state(each), str(each.dead)) for each in found]
    output.show(("webhook", "url", "kinds", "state", "dead"), rows, none="No webhooks yet.")


@app.command()
def show(webhook: Id, *, json: JsonFlag = False) -> None:
    """Show one webhook and its newest deliveries."""
    with login.client() as registry:
        found = registry.webhook(webhook)
        tried = list(itertools.islice(registry.deliveries(webhook), 10))
    if json:
        output.as_json(found)
        return
    pairs = [
        ("webhook", found.id),
        ("url", found.url),
        ("kinds", _kinds(found)),
        ("description", found.description),
        ("state", _state(found)),
        ("told up to event", str(found.cursor)),
        ("dead letters", str(found.dead)),
        ("made", f"{output.moment(found.created_at)} by {found.created_by}"),
    ]
    output.facts([(name, output.plain(value)) for name, value in pairs])
    _show_deliveries(tried)


@app.command()
def change(
    webhook: Id,
    kind: Kind = None,
    url: Annotated[str | None, typer.Option(help="Send to this URL instead.")] = None,
    *,
    on: Annotated[
        bool | None, typer.Option("--on/--off", help="Switch it on or off; nothing is skipped.")
    ] = None,
    new_secret: Annotated[
        bool, typer.Option("--new-secret", help=f"Take the secret in {SECRET}.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Change a webhook."""
    from cloud import shapes

    secret = os.environ.get(SECRET, "") if new_secret else None
    changes = shapes.WebhookChanges.make(url=url, kinds=kind or None, active=on, secret=secret)
    with login.client() as registry:
        found = registry.change_webhook(webhook, changes)
    output.as_json(found) if json else output.result(f"{found.id}  {_state(found)}")


@app.command("test")
def try_out(webhook: Id, *, json: JsonFlag = False) -> None:
    """Send a message that is no event, now. Exit code 1 if it was not taken."""
    with login.client() as registry:
        found = registry.test_webhook(webhook)
    output.as_json(found) if json else _show_deliveries([found])
    if found.outcome != "delivered":
        raise GaveUpError(f"{webhook} did not take it: {output.plain(found.detail)}")


@app.command()
def deliveries(
    webhook: Id,
    number: Annotated[int, typer.Option("-n", min=1, help="How many, newest first.")] = 20,
    *,
    json: JsonFlag = False,
) -> None:
    """List what was sent, and how that went."""
    with login.client() as registry:
        found = list(itertools.islice(registry.deliveries(webhook), number))
    output.as_json(found) if json else _show_deliveries(found)


@app.command()
def replay(
    webhook: Id,
    *,
    dead: Annotated[bool, typer.Option("--dead", help="What could not be told in time.")] = False,
    after: Annotated[
        int | None, typer.Option(min=0, help="All events with higher ids than this.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Tell events once more: the dead letters, or all after an id. Switches the webhook on."""
    from cloud import shapes
    from runtime.errors import InvalidError

    if dead == (after is not None):
        raise InvalidError("replay", sys.argv[-1], "give either --dead or --after EVENT")
    with login.client() as registry:
        found = registry.replay_webhook(webhook, shapes.Replay.make(after=after))
    if json:
        output.as_json(found)
        return
    output.result(f"{found.queued} dead letters queued" if dead else f"all after {after} queued")


@app.command()
def remove(webhook: Id) -> None:
    """Forget a webhook and its dead letters."""
    with login.client() as registry:
        registry.remove_webhook(webhook)
    output.say(f"{webhook} is removed.")


def _kinds(found: "shapes.Webhook") -> str:
    return ", ".join(found.kinds) or "all"


def _state(found: "shapes.Webhook") -> str:
    if not found.active:
        return f"off: {found.disabled_reason}" if found.disabled_reason else "off"
    if found.failing_since is not None:
        again = output.moment(found.next_at)
        return f"failing since {output.moment(found.failing_since)}, tried again {again}"
    return "waiting to be told" if found.waiting else "up to date"


def _show_deliveries(found: "list[shapes.Delivery]") -> None:
    rows = [
        (
            output.moment(each.at),
            "test" if each.event == 0 else str(each.event),
            str(each.attempt),
            each.outcome,
            "-" if each.status is None else str(each.status),
            f"{each.took_ms:.0f}",
            each.detail.splitlines()[0][:80] if each.detail else "",
        )
        for each in found
    ]
    columns = ("at", "event", "attempt", "outcome", "status", "ms", "answer")
    output.show(columns, rows, none="Nothing was sent yet.")
