import importlib
import pkgutil

import cloud
import edge_agent
import runtime
from runtime.errors import InvalidError, PackhorseError


def test_an_invalid_value_is_shown_cut_with_its_field_and_the_fix() -> None:
    text = str(InvalidError("check.inputs", "x" * 500, "name a file of the bundle"))

    assert text.startswith("check.inputs: 'xxx")
    assert text.endswith("... is not accepted: name a file of the bundle")
    assert len(text) < 200


def every_error(kind: type[PackhorseError]) -> list[type[PackhorseError]]:
    """Return a class and all below it."""
    return [kind, *(found for below in kind.__subclasses__() for found in every_error(below))]


def test_every_error_of_ours_ends_in_error_and_has_a_docstring() -> None:
    for package in (runtime, edge_agent, cloud):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__") and ".migrations" not in module.name:
                importlib.import_module(module.name)

    for kind in every_error(PackhorseError):
        assert kind.__name__.endswith("Error"), kind
        assert kind.__doc__, kind
