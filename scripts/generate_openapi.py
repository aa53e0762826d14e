"""Write docs/reference/openapi.json: the HTTP API as the registry itself describes it.

With `--check`, write nothing and exit 1 if the page is not what would be written.
"""

import json
import sys
import tempfile
from pathlib import Path

from cloud import database
from cloud.app import create_app
from cloud.services import BrokerAddress, Services
from cloud.settings import Settings
from cloud.storage.blobs import Blobs
from cloud.storage.directory import Directory
from cloud.storage.encodings import EncodingStore
from cloud.trust.authority import Authority
from cloud.trust.presign import Presigner
from runtime.clock import SystemClock

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "openapi.json"


def description(data: Path) -> str:
    """Return the description, by a registry in this directory that never serves."""
    settings = Settings(data=data)
    store = Directory(data)
    blobs = Blobs(store)
    services = Services(
        settings=settings,
        engine=database.open_engine(settings.url_of_database),
        store=store,
        blobs=blobs,
        encodings=EncodingStore(store, blobs),
        authority=Authority.open(settings.authority_directory),
        presigner=Presigner.open(settings.secrets_directory, ttl_s=60.0, clock=SystemClock()),
        broker=BrokerAddress(None, 8883),
    )
    return json.dumps(create_app(services).openapi(), indent=1, sort_keys=True) + "\n"


def main(arguments: list[str]) -> None:
    """Write the page, or compare it."""
    with tempfile.TemporaryDirectory() as place:
        text = description(Path(place))
    if "--check" not in arguments:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text, "utf-8")
    elif not PAGE.is_file() or PAGE.read_text("utf-8") != text:
        raise SystemExit("docs/reference/openapi.json is out of date: run `make reference`")


if __name__ == "__main__":
    main(sys.argv[1:])
