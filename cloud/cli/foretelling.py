"""`packhorse plan` and `packhorse explain`: what would happen, and why it has not."""

from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import login, output
from cloud.cli.output import JsonFlag
from runtime.wording import counted

if TYPE_CHECKING:
    from cloud import shapes


def plan(
    *,
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE", help="A deployment document; - is stdin.")
    ],
    json: JsonFlag = False,
) -> None:
    """Say what a deployment document would do; nothing moves.

    Exit code 0 when nothing stands in its way, 1 when something does.
    """
    from cloud.cli import rolling
    from cloud.errors import GaveUpError

    document = rolling.read(file)
    with login.client() as registry:
        found = registry.plan(document)
    output.as_json(found) if json else _print_plan(found)
    grave = [each for each in found.obstacles if each.kind != "offline"]
    if grave:
        raise GaveUpError(
            f"{counted(len(grave), 'obstacle')}; {grave[0].device or 'all'}: {grave[0].text}"
        )


def _print_plan(found: "shapes.Plan") -> None:
    presences = ", ".join(f"{count} {name}" for name, count in sorted(found.by_presence.items()))
    output.result(f"{found.name}: {counted(found.devices, 'device')} ({presences or 'none match'})")
    *named, rest = found.waves  # the last takes the devices that none of the document's took
    waves = [*named, rest] if rest or not named else named
    output.result(f"waves: {', '.join(map(str, waves))}")
    for each in found.modules:
        encodings = ", ".join(
            f"{output.size(count)} {name}" for name, count in each.bytes_by_encoding.items()
        )
        fetching = counted(each.fetching, "device fetches", "devices fetch")
        output.result(
            f"{each.module}: {each.model}:{each.version}, {fetching} {encodings or 'nothing'};"
            f" {output.size(each.disk_bytes)} of disk on each"
        )
    seconds = "unknown" if found.expected_s is None else f"{found.expected_s:.0f} s"
    output.result(f"expected: {seconds} ({found.expected})")
    rows = [(each.kind, each.device, each.text) for each in found.obstacles]
    output.show(("obstacle", "device", "why"), rows, none="Nothing stands in its way.")


def explain(
    device: Annotated[str, typer.Argument(metavar="DEVICE")], *, json: JsonFlag = False
) -> None:
    """Say why a device runs what it runs, and what blocks the next.

    Exit code 0 when it is healthy, 1 when it is not, or that is not known.
    """
    from cloud.errors import GaveUpError

    with login.client() as registry:
        found = registry.explanation(device)
    output.as_json(found) if json else _print_explanation(found)
    if not found.healthy:
        wrong = [each for each in found.modules if each.verdict != "running"]
        why = f"{wrong[0].module}: {wrong[0].reason}" if wrong else found.presence_reason
        raise GaveUpError(output.plain(f"{found.device} is not healthy: {why}"))


def _print_explanation(found: "shapes.Explanation") -> None:
    output.result(f"{found.device}: {found.presence}, {found.presence_reason}")
    for each in found.modules:
        age = "never reported" if each.age_s is None else f"reported {each.age_s:.0f} s ago"
        text = f"{each.module}: runs {each.running}, shall run {each.wanted}: {each.verdict}"
        output.result(output.plain(f"{text}, {each.reason} ({age})"))
        rows = [
            (
                claim.deployment,
                claim.rollout or "",
                claim.name,
                str(claim.priority),
                f"{claim.model}:{claim.version}",
                claim.standing,
                f"{claim.age_s:.0f} s",
                claim.reason,
            )
            for claim in each.claims
        ]
        columns = ("deployment", "rollout", "name", "priority", "model", "standing", "age", "why")
        output.show(columns, rows, none="No deployment wants it.")
