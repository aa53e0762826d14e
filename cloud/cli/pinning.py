"""From the tag of an image to the digest that it stands for now, asked of its image registry.

What is pinned is the index, if there is one: each device takes from it what it can run.
"""

import contextlib

from cloud.cli import output
from runtime.errors import InvalidError
from runtime.imageregistry import lines, manifests, names
from runtime.imageregistry.client import RegistryClient
from runtime.imageregistry.errors import AbsentImageError, DeniedError, ImageRegistryError
from runtime.imageregistry.manifests import Platform


def pin(image: str, field: str) -> str:
    """Return the digest of an image that is named by tag, and say which it is.

    Raises InvalidError naming the field if there is none, or none for Linux, or nobody lets us see
    it; LinkError if the image registry does not answer.
    """
    from runtime.containers.client import configured_login

    name = names.parse(image, field)
    insecure = lines.is_insecure(name.host)
    client = RegistryClient(name, configured_login(name.host), insecure=insecure)
    try:
        with contextlib.closing(client):
            found = client.document(name.tag)
            there = _platforms(client, found.data, found.media_type)
    except AbsentImageError as error:
        raise InvalidError(field, image, f"{name.host} has none: push it there first") from error
    except DeniedError as error:
        fix = f"{error}: `docker login {name.host}`, or name it by digest"
        raise InvalidError(field, image, fix) from error
    except ImageRegistryError as error:
        raise InvalidError(field, image, str(error)) from error
    named = ", ".join(map(str, there))
    if not any(each.os == "linux" for each in there):
        raise InvalidError(field, image, f"devices run Linux, and it is for {named or 'nothing'}")
    output.say(f"{image} is {found.digest} ({named})")
    return found.digest


def _platforms(client: RegistryClient, data: bytes, media_type: str) -> tuple[Platform, ...]:
    found = manifests.read(data, media_type)
    if isinstance(found, tuple):
        return manifests.platforms(found)
    size = min(found.config.size, manifests.MAX_BYTES)
    config = b"".join(client.blob(found.config.digest, 0, size))
    return (manifests.read_config(config).platform,)
