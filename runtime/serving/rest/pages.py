"""What people and their programs read about the models: OpenAPI, and a page to try them."""

from urllib.parse import quote

import msgspec

from runtime.serving import examples, openapi, page
from runtime.serving.dataplane import DataPlane
from runtime.serving.page import Shown
from runtime.serving.rest.described import Descriptions
from runtime.serving.rest.known import Known
from runtime.serving.served import Served
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
        """Show all models."""
        body = page.render([self._shown(served) for served in self._plane.served])
        fields = b"content-type: %b\r\ncontent-security-policy: %b\r\n" % (
            page.CONTENT_TYPE.encode(),
            page.policy().encode(),
        )
        return Answer(200, fields, body)

    def _shown(self, served: Served) -> Shown:
        layout, arrays = self._described.of(served)
        row = examples.first_row(served.signature, arrays)
        example = examples.score_body(layout, row)
        version = quote(served.version, safe="")
        path = f"/v2/models/{quote(served.name, safe='')}/versions/{version}"
        text = "" if example is None else msgspec.json.format(msgspec.json.encode(example)).decode()
        return Shown(served.name, served.version, f"{path}/score", f"{path}/openapi.json", text)
