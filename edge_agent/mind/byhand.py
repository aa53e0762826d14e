"""What somebody at the device has brought is wanted like the registry's own word."""

from msgspec.structs import replace

from edge_agent.mind.events import HandApplied
from edge_agent.mind.modules import Module
from runtime import messages
from runtime.messages import ModuleSpec


def wish(module: Module, applied: HandApplied) -> ModuleSpec:
    """Return what the module shall run.

    Sources, capture and soak time stay as they are wanted. A bundle that was refused is tried
    again: somebody insists.
    """
    bundle, model, version = applied.bundle, applied.model, applied.version
    base = module.wanted or ModuleSpec(module.name, bundle, model, version, messages.BY_HAND)
    refused = [blame.attempt for blame in module.blames if blame.refused and blame.bundle == bundle]
    return replace(
        base,
        bundle=bundle,
        model=model,
        version=version,
        deployment=messages.BY_HAND,
        attempt=max(refused, default=-1) + 1,
        candidate=None,
    )
