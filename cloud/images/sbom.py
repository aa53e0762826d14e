"""What is in an image, as a CycloneDX document: the same bytes for the same image."""

import datetime as dt
import json
import uuid
from collections.abc import Iterable

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from cloud.images.content import Content
from cloud.images.foundation import Base
from cloud.images.packages import Package

_NAMESPACE = uuid.UUID("6f0f3f0a-5f0b-5a3e-9f0e-7d1f3c2b9a10")
_UNDATED = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""An image's document has no time of its own: it would be another one at each build."""


def write(
    base: Base, packages: Iterable[Package], content: Content | None, version: str, made_of: str
) -> bytes:
    """Return the document of an image that is made of this; `made_of` is its input's digest."""
    subject = Component(
        name=content.index.name if content else "packhorse-gateway",
        version=str(content.version) if content else version,
        type=ComponentType.CONTAINER,
        bom_ref="image",
        description=content.index.description or None if content else None,
    )
    components = [
        Component(
            name=base.reference,
            type=ComponentType.CONTAINER,
            version=base.digest.rpartition("@")[2],
            bom_ref="base",
        ),
        _library("packhorse", version, "", "Apache-2.0"),
        *(_library(each.name, each.version, each.sha256, each.license) for each in packages),
        *(_files(content) if content else ()),
    ]
    bom = Bom(
        components=components,
        serial_number=uuid.uuid5(_NAMESPACE, made_of),
        metadata=BomMetaData(component=subject, timestamp=_UNDATED),
    )
    bom.register_dependency(subject, components)
    # By way of plain values: the library's order of sets differs from run to run.
    plain = json.loads(JsonV1Dot6(bom).output_as_string())
    plain["components"].sort(key=lambda each: str(each["bom-ref"]))
    plain["dependencies"].sort(key=lambda each: str(each["ref"]))
    for each in plain["dependencies"]:
        each.get("dependsOn", []).sort()
    return json.dumps(plain, indent=1, sort_keys=True).encode() + b"\n"


def _library(name: str, version: str, sha256: str, spdx: str) -> Component:
    purl = PackageURL("pypi", name=name, version=version)
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=purl.to_string(),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else (),
        licenses=[LicenseExpression(spdx)] if spdx else (),
    )


def _files(content: Content) -> Iterable[Component]:
    models = {content.index.model, *(each.model for each in content.index.variants)}
    models |= {f"{step.directory}/{step.index.model}" for step in content.index.steps}
    for entry in content.index.files:
        yield Component(
            name=entry.path,
            type=ComponentType.MACHINE_LEARNING_MODEL
            if entry.path in models
            else ComponentType.FILE,
            version=str(content.version),
            bom_ref=f"file:{entry.path}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=entry.sha256)],
        )
