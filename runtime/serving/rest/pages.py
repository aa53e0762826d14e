"""What people and their programs read about the models: OpenAPI, and a page to try them."""

import msgspec

from runtime.serving import openapi, page
from runtime.serving.dataplane import DataPlane
from runtime.serving.rest.described import Descriptions
from runtime.serving.rest.known import Known
from runtime.serving.wire import answers
from runtime.serving.wire.answers import Answer
from runtime.serving.wire.bodies import Body


class Pages:
    """Answers for readers."""

    def __init__(self, plane: DataPlane, described: Descriptions, *, keyed: bool) -> None:
        """`keyed`: requests must bring a key."""
        self._plane, self._described, self._keyed = plane, described, keyed

    def openapi(self, known: Known, _body: bytes | Body) -> Answer:
        """Describe a model, or the only one."""
        served = self._described.only(known.place)
        layout, example = self._described.of(served)
        document = openapi.describe(
            served.name,
            served.version,
            layout,
            example=example,
            only=len({each.name for each in self._plane.served}) == 1,
            keyed=self._keyed,
        )
        return answers.json(msgspec.json.encode(document))

    def docs(self, _known: Known, _body: bytes | Body) -> Answer:
        """Return the page; it asks for the rest itself."""
        fields = b"content-type: %b\r\ncontent-security-policy: %b\r\n" % (
            page.CONTENT_TYPE.encode(),
            page.policy().encode(),
        )
        return Answer(200, fields, page.PAGE)
