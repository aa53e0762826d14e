"""Which files of a bundle fit a device: the same model for other hardware. Pure.

    variants:                                  # the first match wins; none: the top level
      - name: tensorrt
        when: {arch: aarch64, accelerator: tensorrt, memory_mb: ">=4096"}
        model: model.fp16.onnx
        providers: [TensorrtExecutionProvider, CUDAExecutionProvider]

A condition compares one fact of the device: `value` or `=value`, `!=value`, `>=4096`, `>4096`,
`<=6.1`, `<6.1` (numbers and dotted versions, part by part). A list means that one of them must
hold. `accelerator` and `provider` match any of the device's execution providers too, by full or
short name: TensorrtExecutionProvider or tensorrt. Facts are in docs/specs/bundle.md.
"""

from collections.abc import Mapping

import msgspec

from runtime.bundle import conditions
from runtime.bundle.index import Index, Variant, files_of
from runtime.bundle.names import DEFAULT_VARIANT
from runtime.errors import InvalidError

DEFAULT = DEFAULT_VARIANT
"""What the top level is called where variants are named."""
PROVIDERS = "providers"
"""The fact that lists a device's execution providers, with commas."""
ABOUT_PROVIDERS = ("accelerator", "provider")

_SUFFIX = "executionprovider"


def choose(index: Index, facts: Mapping[str, str]) -> Variant | None:
    """Return the first variant that these facts fulfil; None: the top level."""
    return next((each for each in index.variants if matches(each, facts)), None)


def matches(variant: Variant, facts: Mapping[str, str]) -> bool:
    """Say whether a device with these facts fulfils every condition."""
    return all(
        any(conditions.holds(condition, _values(fact, facts)) for condition in listed)
        for fact, listed in variant.when.items()
    )


def named(index: Index, name: str) -> Index:
    """Return the bundle as a device with this variant sees it; raise InvalidError if unknown."""
    if name == DEFAULT:
        return _seen(index, None)
    for variant in index.variants:
        if variant.name == name:
            return _seen(index, variant)
    known = ", ".join((DEFAULT, *(each.name for each in index.variants)))
    raise InvalidError("variant", name, f"choose from {known}")


def seen_by(index: Index, facts: Mapping[str, str]) -> Index:
    """Return the bundle as a device with these facts sees it.

    Its model, check and providers are those of the device's variant, its files those that this
    needs; `variants` is empty.
    """
    return _seen(index, choose(index, facts))


def name_of(index: Index, facts: Mapping[str, str]) -> str:
    """Return the name of the variant that a device with these facts runs."""
    chosen = choose(index, facts)
    return DEFAULT if chosen is None else chosen.name


def _seen(index: Index, variant: Variant | None) -> Index:
    if not index.variants:
        return index
    changed = {} if variant is None else {"model": variant.model, "providers": variant.providers}
    check = index.check if variant is None or variant.check is None else variant.check
    kept = files_of(index, variant)
    return msgspec.structs.replace(index, files=kept, check=check, variants=(), only=(), **changed)


def _values(fact: str, facts: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a device has under a fact's name, in lower case."""
    own = facts.get(fact, "").lower()
    if fact not in ABOUT_PROVIDERS:
        return (own,)
    providers = [name.strip().lower() for name in facts.get(PROVIDERS, "").split(",")]
    short = [name.removesuffix(_SUFFIX) for name in providers]
    return tuple(value for value in (own, *providers, *short) if value)
