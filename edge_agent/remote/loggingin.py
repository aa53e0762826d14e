"""A login to an image registry, brought from afar: sealed, so that this device alone can read it.

First the device is asked for its certificate; what comes then was sealed to that one's key.
"""

from pathlib import Path

from edge_agent.containers.logins import Logins
from edge_agent.remote.desk import Asked, Outcome
from runtime import operations, sealing
from runtime.errors import InvalidError
from runtime.imagelogins import Login


class LoggingIn:
    """Of one device."""

    def __init__(self, data: Path) -> None:
        """Keep logins in `data`, where the identity is too."""
        self._data = data

    def __call__(self, asked: Asked) -> Outcome:
        """Return the certificate, or keep or forget a login."""
        options = asked.options
        assert isinstance(options, operations.LoginOptions)
        directory = self._data / "identity"
        try:
            if not options.sealed and not options.forget:
                return Outcome("seal to this", (directory / "device.pem").read_bytes())
            login = None
            if not options.forget:
                key = (directory / "device.key").read_bytes()
                password = sealing.unseal(options.sealed, key).decode()
                login = Login(options.username, password)
        except FileNotFoundError as error:
            raise InvalidError("identity", str(error.filename), "enrol this device") from error
        Logins(self._data).write(options.registry, login)
        return Outcome(f"{'forgot' if login is None else 'keeps'} {options.registry}")
