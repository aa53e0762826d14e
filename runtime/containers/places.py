"""Networks and volumes of a container engine."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from runtime.containers.client import explaining
from runtime.containers.errors import AbsentError, EngineRefusedError

_CONFLICT = 409


class Places:
    """Where containers of one engine live. All raise EngineErrors."""

    _api: Any

    def make_network(self, name: str, labels: Mapping[str, str]) -> None:
        """Make a bridge of its own, if it is not there."""
        if self.network_labels(name) is not None:
            return
        with tolerating(_CONFLICT), explaining(f"make network {name}"):
            self._api.create_network(
                name, driver="bridge", labels=dict(labels), check_duplicate=True
            )

    def network_labels(self, name: str) -> dict[str, str] | None:
        """Return a network's labels; None: there is no such network."""
        with explaining("list networks"):
            found = self._api.networks(names=[name])
        exact = [each for each in found if each["Name"] == name]
        return dict(exact[0].get("Labels") or {}) if exact else None

    def networks(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names of those with these labels."""
        with explaining("list networks"):
            found = self._api.networks(filters={"label": filters(labels)})
        return tuple(str(each["Name"]) for each in found)

    def join(self, network: str, container: str, aliases: tuple[str, ...]) -> None:
        """Connect a container to a network."""
        with explaining(f"join network {network}"):
            self._api.connect_container_to_network(container, network, aliases=list(aliases))

    def remove_network(self, name: str) -> None:
        """Forget a network; one that is not there is fine."""
        with contextlib.suppress(AbsentError), explaining(f"remove network {name}"):
            self._api.remove_network(name)

    def make_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Make a volume, if it is not there."""
        with explaining(f"make volume {name}"):
            self._api.create_volume(name, labels=dict(labels))

    def volumes(self, labels: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Return the labels of the volumes with these labels, by name."""
        with explaining("list volumes"):
            found = self._api.volumes(filters={"label": filters(labels)})["Volumes"] or ()
        return {str(each["Name"]): dict(each.get("Labels") or {}) for each in found}

    def volume_labels(self, name: str) -> dict[str, str] | None:
        """Return a volume's labels; None: there is no such volume."""
        try:
            with explaining(f"inspect volume {name}"):
                return dict(self._api.inspect_volume(name).get("Labels") or {})
        except AbsentError:
            return None

    def remove_volume(self, name: str) -> None:
        """Forget a volume; one that is not there is fine."""
        with contextlib.suppress(AbsentError), explaining(f"remove volume {name}"):
            self._api.remove_volume(name)


@contextlib.contextmanager
def tolerating(*statuses: int) -> Iterator[None]:
    """Let the engine refuse with one of these."""
    try:
        yield
    except EngineRefusedError as error:
        if error.status not in statuses:
            raise


def filters(labels: Mapping[str, str]) -> list[str]:
    """Return labels as the engine is asked for them; "" is any value."""
    return [f"{name}={value}" if value else name for name, value in labels.items()]
