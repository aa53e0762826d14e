"""What every group of calls stands on."""

from cloud.transport import Transport


class Calls:
    """Some of the registry's calls, over one transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
