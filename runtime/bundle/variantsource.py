"""The `variants` of a bundle.yaml: see runtime.bundle.variants."""

from runtime.bundle import checksource, conditions, names
from runtime.bundle.fields import Fields
from runtime.bundle.index import MAX_VARIANTS, Loss, Variant
from runtime.errors import InvalidError

_KEYS = ("name", "when", "model", "providers", "check", "lost")


def read(top: Fields, kind: str) -> tuple[Variant, ...]:
    """Return the variants, without the paths that each alone needs.

    Raises InvalidError naming the field that is missing, unknown or wrong.
    """
    if "variants" not in top:
        return ()
    if kind != "onnx":
        raise InvalidError("variants", "…", "only kind onnx has variants: leave it out")
    found = tuple(_variant(each) for each in top.each("variants", _KEYS))
    called = [each.name for each in found]
    if len(called) > MAX_VARIANTS:
        raise InvalidError("variants", len(called), f"give at most {MAX_VARIANTS}")
    if len(set(called)) != len(called):
        raise InvalidError("variants", called, "give each variant its own name")
    return found


def _variant(each: Fields) -> Variant:
    when = each.fields("when", None)
    if not when.names():
        raise InvalidError(each.field("when"), None, "say for which devices: {arch: aarch64}")
    return Variant(
        name=names.require_variant(each.text("name", required=True), each.field("name")),
        when={fact: _conditions(when, fact) for fact in when.names()},
        model=each.path("model", required=True),
        providers=each.texts("providers"),
        check=checksource.read(each),
        lost=_lost(each),
    )


def _conditions(when: Fields, fact: str) -> tuple[str, ...]:
    texts = when.one_or_more(fact)
    return tuple(conditions.require(text, when.field(fact)) for text in texts)


def _lost(each: Fields) -> Loss | None:
    if "lost" not in each:
        return None
    lost = each.fields("lost", ("metric", "value", "rows"))
    value = lost.number("value", above=0, inclusive=True)
    rows = lost.number("rows", above=0, inclusive=True)
    return Loss(lost.text("metric", required=True), float(value or 0.0), int(rows or 0))
