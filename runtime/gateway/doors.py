"""Who is let in, whichever way they come."""

import http

from runtime.gateway.errors import RefusedError
from runtime.gateway.keyring import TooOftenError, UnknownKeyError
from runtime.gateway.routes import Routes, Table


def let_in(routes: Routes, authorization: str | None, api_key: str | None) -> Table:
    """Return the configuration in force, under which a request goes through.

    `authorization` and `api_key` are the headers of those names. Raises RefusedError.
    """
    table = routes.table
    if table is None:
        status = http.HTTPStatus.SERVICE_UNAVAILABLE
        raise RefusedError(status, "the gateway has no configuration yet", retry_after_s=1.0)
    try:
        table.keyring.admit(authorization, api_key)
    except UnknownKeyError as error:
        text = "no valid key: send one of this service's as Authorization: Bearer KEY"
        raise RefusedError(http.HTTPStatus.UNAUTHORIZED, text) from error
    except TooOftenError as error:
        text = f"key {error.key} asks too often: come again in {error.wait_s:.3g} s"
        status = http.HTTPStatus.TOO_MANY_REQUESTS
        raise RefusedError(status, text, retry_after_s=error.wait_s) from error
    return table
