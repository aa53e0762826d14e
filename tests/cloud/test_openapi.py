from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case
from schemathesis.core.failures import FailureGroup

from tests.support import registries
from tests.support.registries import Registry

pytestmark = pytest.mark.timeout(600)

EXAMPLES = 25
# What a description cannot say makes a request invalid too: a label's letters, a model's name.
NOT = [schemathesis.checks.positive_data_acceptance]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    # No streams: in process, an answer without an end is never returned.
    place = tmp_path_factory.mktemp("registry")
    with registries.running(place, max_streams=0, max_blob_bytes=1 << 20) as running:
        running.register("scale", b"one")
        running.enrol("dev-a")
        running.post("/api/v1/deployments", {"model": "scale", "selector": "device=dev-a"})
        yield running


@pytest.fixture(scope="module")
def described(registry: Registry) -> Any:
    schema = schemathesis.openapi.from_asgi(
        "/api/v1/openapi.json",
        registry.http.app,
        headers={"Authorization": f"Bearer {registry.key}"},
    )
    return list(schema.get_all_operations())


def wrong_with(operation: Any, key: str) -> list[str]:
    """Ask for one route in many ways; return what was not answered as described."""
    found: list[str] = []

    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Case) -> None:
        try:
            case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, excluded_checks=NOT)
        except FailureGroup as group:
            found.extend(f"{operation.label}: {each}" for each in group.exceptions)

    ask()
    return found


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_whatever_is_asked_is_answered_as_described(
    registry: Registry, described: Any, method: str
) -> None:
    operations = [each.ok() for each in described if each.ok().method.lower() == method]
    wrong = [each for operation in operations for each in wrong_with(operation, registry.key)]

    assert operations
    assert wrong == []
