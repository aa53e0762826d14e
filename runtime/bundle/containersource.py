"""The `container` or `containers` of a bundle.yaml: see runtime.bundle.containers."""

from typing import Any

from runtime.bundle import containerchecks, containers
from runtime.bundle.containers import Container, Group, Health, Logs, Pin, Port, Volume
from runtime.bundle.fields import Fields
from runtime.errors import InvalidError

KIND = "container"
KEYS = ("container", "containers", "start", "trial_s")
ALONE = "main"
"""What the container is called where there is one."""
_OF_MODELS = (
    "model", "entry", "signature", "requirements", "check", "resources", "sources", "providers",
    "variants", "ensemble", "batching",
)  # fmt: skip
_KEYS = (
    "image", "command", "entrypoint", "environment", "ports", "volumes", "devices", "gpu",
    "resources", "restart", "health", "logs", "user", "read_only", "tmpfs", "capabilities", "needs",
    "network", "stop_s",
)  # fmt: skip


def read(top: Fields, kind: str, pin: Pin | None = None) -> Group | None:
    """Return the containers; None for another kind. Raises InvalidError naming the field."""
    if kind != KIND:
        for key in KEYS:
            if key in top:
                raise InvalidError(key, "…", "write kind: container, or leave it out")
        return None
    for key in _OF_MODELS:
        if key in top:
            fix = "a container has none: leave it out" + (
                ", or write it below the container" if key == "resources" else ""
            )
            raise InvalidError(key, "…", fix)
    if ("container" in top) == ("containers" in top):
        raise InvalidError("container", None, "write container: for one, or containers: by name")
    if "container" in top:
        listed: tuple[Container, ...] = (_container(top.fields("container", _KEYS), ALONE),)
    else:
        named = top.fields("containers", None)
        listed = tuple(_container(named.fields(name, _KEYS), name) for name in named.names())
    group = Group(listed, **_given(start=_choice(top, "start"), trial_s=_number(top, "trial_s")))
    containerchecks.require(group, tags=True)
    return group if pin is None else containers.pinned(group, pin)


def _container(own: Fields, name: str) -> Container:
    resources = own.fields("resources", ("memory_mb", "cpu"))
    given = _given(
        command=_words(own, "command"),
        entrypoint=_words(own, "entrypoint"),
        environment=_environment(own),
        ports=tuple(_port(each) for each in _each(own, "ports", _PORT)),
        volumes=tuple(_volume(each) for each in _each(own, "volumes", _VOLUME)),
        devices=own.texts("devices") or None,
        gpus=_gpus(own),
        memory_mb=_whole(resources, "memory_mb"),
        cpu=_number(resources, "cpu"),
        restart=_choice(own, "restart"),
        health=_health(own),
        logs=_logs(own),
        user=own.text("user") or None,
        read_only=own.flag("read_only"),
        tmpfs=own.texts("tmpfs") if "tmpfs" in own else None,
        capabilities=own.texts("capabilities") or None,
        needs=own.texts("needs") or None,
        network=_choice(own, "network"),
        stop_s=_whole(own, "stop_s"),
    )
    image = containers.without_tag(own.text("image", required=True))
    return Container(name=name, image=image, **given)


_PORT = ("port", "host", "address", "protocol")
_VOLUME = ("path", "name", "host", "read_only", "keep")


def _port(own: Fields) -> Port:
    port, host = _whole(own, "port"), _whole(own, "host")
    if port is None or host is None:
        fix = "write {host: 8080, port: 80}: the device's port and the container's"
        raise InvalidError(own.field("port" if port is None else "host"), None, fix)
    given = _given(address=own.text("address") or None, protocol=_choice(own, "protocol"))
    return Port(port=port, host=host, **given)


def _volume(own: Fields) -> Volume:
    given = _given(
        name=own.text("name") or None,
        host=own.text("host") or None,
        read_only=own.flag("read_only"),
        keep=own.flag("keep"),
    )
    return Volume(path=own.text("path", required=True), **given)


def _health(own: Fields) -> Health | None:
    if "health" not in own:
        return None
    health = own.fields(
        "health", ("command", "http", "interval_s", "timeout_s", "retries", "start_s")
    )
    http = health.fields("http", ("port", "path"))
    if "http" in health and "port" not in http:
        raise InvalidError(http.field("port"), None, "write port: the container's own")
    return Health(
        **_given(
            command=_words(health, "command"),
            port=_whole(http, "port"),
            path=http.text("path") or None,
            interval_s=_number(health, "interval_s"),
            timeout_s=_number(health, "timeout_s"),
            retries=_whole(health, "retries"),
            start_s=_number(health, "start_s"),
        )
    )


def _logs(own: Fields) -> Logs:
    logs = own.fields("logs", ("max_mb", "files"))
    return Logs(**_given(max_mb=_whole(logs, "max_mb"), files=_whole(logs, "files")))


def _gpus(own: Fields) -> int | None:
    if "gpu" not in own:
        return None
    if own.is_text("gpu"):
        if own.text("gpu") == "all":
            return containers.ALL_GPUS
        raise InvalidError(own.field("gpu"), own.text("gpu"), "write all, or how many")
    return _whole(own, "gpu")


def _environment(own: Fields) -> dict[str, str]:
    variables = own.fields("environment", None)
    return {name: variables.text(name, required=True) for name in variables.names()}


_CHOICES = {
    "start": ("beside", "stop-then-start"),
    "restart": ("always", "on-failure"),
    "network": ("own", "host", "none"),
    "protocol": ("tcp", "udp"),
}
_WHY_NOT = {
    "no": ": what may stay ended is no module of a device",
    "unless-stopped": ": always means the same here",
}


def _choice(own: Fields, key: str) -> str | None:
    text = own.text(key)
    if text and text not in _CHOICES[key]:
        fix = f"use {' or '.join(_CHOICES[key])}{_WHY_NOT.get(text, '')}"
        raise InvalidError(own.field(key), text, fix)
    return text or None


def _words(own: Fields, key: str) -> tuple[str, ...] | None:
    """Return a program and its arguments; one text is split by no shell, so it is refused."""
    if key not in own:
        return None
    if own.is_text(key):
        fix = "write a list of words, as in [sh, -c, 'exec program']: no shell splits it"
        raise InvalidError(own.field(key), own.text(key), fix)
    return own.texts(key)


def _each(own: Fields, key: str, known: tuple[str, ...]) -> list[Fields]:
    return own.each(key, known) if key in own else []


def _number(own: Fields, key: str) -> float | None:
    value = own.number(key, above=0, inclusive=True)
    return None if value is None else float(value)


def _whole(own: Fields, key: str) -> int | None:
    value = own.number(key, above=0, inclusive=True)
    if value is not None and not isinstance(value, int):
        raise InvalidError(own.field(key), value, "give a whole number")
    return value


def _given(**values: object) -> dict[str, Any]:
    """Return what was written: the rest is as the structure has it."""
    return {name: value for name, value in values.items() if value is not None}
