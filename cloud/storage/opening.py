"""Which store the settings ask for."""

import logging
import urllib.parse
from typing import Any

from cloud.errors import StoreError
from cloud.settings import Settings
from cloud.storage.bucket import Bucket, Place
from cloud.storage.directory import Directory
from cloud.storage.objects import ObjectStore
from runtime import files
from runtime.errors import InvalidError

log = logging.getLogger(__name__)

SCHEMES = ("s3", "gs", "azure")
_FORMS = "give s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or azure://CONTAINER/PREFIX?account=NAME"
_OPTIONS = {
    "s3": ("endpoint", "region", "addressing"),
    "gs": (),
    "azure": ("account", "endpoint"),
}
_ADDRESSING = ("path", "virtual")


def open_store(settings: Settings) -> ObjectStore:
    """Return the store for blobs and encodings.

    Raises InvalidError for a URL that names none. One that does not answer is only warned of: the
    registry works without it as far as it can, and with it once it is back.
    """
    if settings.blobs_url is None:
        return Directory(settings.data)
    bucket = Bucket(
        place(settings.blobs_url),
        settings.data,
        cache_bytes=settings.cache_bytes,
        direct=settings.blobs_direct,
    )
    try:
        bucket.check()
    except StoreError as error:
        log.warning("the store for blobs does not answer", extra={"why": str(error)})
    return bucket


def place(url: str) -> Place:
    """Return what a URL names; raise InvalidError if it names nothing, or carries a secret."""
    parsed = urllib.parse.urlsplit(url)
    shown = f"{parsed.scheme}://{parsed.hostname or ''}{parsed.path}"
    if parsed.scheme not in SCHEMES or not parsed.hostname:
        raise InvalidError("blobs_url", shown, _FORMS)
    if parsed.username or parsed.password:
        fix = "keep credentials in the environment (AWS_ACCESS_KEY_ID, ...), not in the URL"
        raise InvalidError("blobs_url", shown, fix)
    prefix = parsed.path.strip("/")
    if prefix:
        files.relative_path(prefix, "blobs_url")
    return Place(parsed.scheme, parsed.netloc, prefix, _options(parsed.scheme, parsed.query))


def _options(scheme: str, query: str) -> dict[str, Any]:
    given = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    for name in given:
        if name not in _OPTIONS[scheme]:
            known = ", ".join(_OPTIONS[scheme]) or "no option"
            raise InvalidError("blobs_url", f"?{name}=...", f"{scheme}:// knows {known}")
    endpoint = given.get("endpoint")
    if endpoint is not None and not endpoint.startswith(("https://", "http://")):
        raise InvalidError("blobs_url", f"?endpoint={endpoint}", "begin it with https://")
    match scheme:
        case "s3":
            return _s3_options(given)
        case "azure" if "account" in given:
            given["account_name"] = given.pop("account")
    return given


def _s3_options(given: dict[str, str]) -> dict[str, Any]:
    # A server of one's own mostly answers at one name for all buckets.
    addressing = given.pop("addressing", "path" if "endpoint" in given else "virtual")
    if addressing not in _ADDRESSING:
        fix = f"write one of {', '.join(_ADDRESSING)}"
        raise InvalidError("blobs_url", f"?addressing={addressing}", fix)
    # The store checks what arrives: a bit that flips on the way is an error there.
    return {
        **given,
        "virtual_hosted_style_request": addressing == "virtual",
        "checksum_algorithm": "SHA256",
        # One object at a time is all that is ever deleted; not every server knows the other way.
        "disable_bulk_delete": True,
    }
