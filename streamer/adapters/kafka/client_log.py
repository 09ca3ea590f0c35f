"""What the client says in its log and nowhere else: why it could not connect."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

_REFUSALS = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
    ssl.SSLError,
)


class ClientLog(logging.Handler):
    """Counts connections refused for who we are, or for who the broker is; `refusal` is the last one, in words.

    aiokafka treats a permanent refusal like a lost connection: it retries ten times a second, and every call of it
    times out.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.refusals = 0
        self.refusal = ""
        self._logger = logging.getLogger("aiokafka")
        self._logger.addHandler(self)
        self._quiet = 0

    def emit(self, record: logging.LogRecord) -> None:
        for value in record.args if isinstance(record.args, tuple) else ():
            if isinstance(value, _REFUSALS):
                self.refusals += 1
                self.refusal = str(value)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Silence the client while it starts: the raised error is enough. Starts may overlap."""
        self._quiet += 1
        self._logger.propagate = False
        try:
            yield
        finally:
            self._quiet -= 1
            self._logger.propagate = not self._quiet


CLIENT_LOG = ClientLog()
