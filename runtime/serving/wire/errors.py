"""What the connection layer refuses.

PackhorseError
└── RefusedError   the request gets no further than HTTP: a status says why    give up
"""

import http

from runtime.errors import PackhorseError


class RefusedError(PackhorseError):
    """A request that is answered with a status and a sentence; `fields` are header lines."""

    def __init__(self, status: http.HTTPStatus, text: str, fields: bytes = b"") -> None:
        super().__init__(text)
        self.status, self.fields = status, fields
