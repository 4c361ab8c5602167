"""The session of an account: one token, renewed once when the server forgot it."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import aiohttp
import orjson
from yarl import URL

from .errors import (
    ConnectionFailed,
    InvalidCredentials,
    MalformedResponse,
    RequestRejected,
    ServerBusy,
    SessionTaken,
    error_for,
    error_for_status,
)
from .models import integer, moment

_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=10)
_TOKEN: Final = "XSRF-TOKEN"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server returned for a call that succeeded."""

    data: object
    server_time: datetime | None
    """The server's clock (`params.currentTime`)."""


class Session:
    """Logs in to one account and sends calls with its token."""

    def __init__(
        self,
        websession: aiohttp.ClientSession,
        base_url: URL,
        user_name: str,
        system_code: str,
        token: str | None = None,
    ) -> None:
        """Take the account's credentials and, where there is one, a good token."""
        self.token = token
        self._websession = websession
        self._base_url = base_url
        self._user_name = user_name
        self._system_code = system_code
        self._login_lock = asyncio.Lock()

    async def call(self, interface: str, parameters: Mapping[str, object]) -> Answer:
        """Call an interface, logging in before or again where that is needed.

        Raises `SessionTaken` when the server does not know a token that is new, what
        the login raises (`InvalidCredentials`, `AccountLocked`), and
        `ConnectionFailed`, `RateLimited`, `PermissionDenied`, `ServerBusy`,
        `RequestRejected` or `MalformedResponse`.
        """
        token = await self._token_other_than(None)
        try:
            return await self._post(interface, parameters, token)
        except SessionTaken:
            token = await self._token_other_than(token)
        return await self._post(interface, parameters, token)

    async def logout(self) -> None:
        """Close the session (`logout`)."""
        token, self.token = self.token, None
        if token is not None:
            await self._post("logout", {"xsrfToken": token}, token)

    async def _token_other_than(self, refused: str | None) -> str:
        """Return a token that was not refused, by one login for all who wait."""
        async with self._login_lock:
            if self.token is None or self.token == refused:
                self.token = None
                self.token = await self._login()
            return self.token

    async def _login(self) -> str:
        """Open a new session (`login`); the account's previous one ends."""
        response, content = await self._send(
            "login", {"userName": self._user_name, "systemCode": self._system_code}
        )
        cookie = response.cookies.get(_TOKEN)
        token = response.headers.get(_TOKEN) or (cookie.value if cookie else None)
        # Older servers answer wrong credentials with an empty body.
        if response.status == 200 and not content and not token:
            raise InvalidCredentials
        read_answer("login", response.status, content)
        if not token:
            raise MalformedResponse("login without a token")
        return token

    async def _post(
        self, interface: str, parameters: Mapping[str, object], token: str
    ) -> Answer:
        response, content = await self._send(interface, parameters, {_TOKEN: token})
        return read_answer(interface, response.status, content)

    async def _send(
        self,
        interface: str,
        parameters: Mapping[str, object],
        headers: Mapping[str, str] | None = None,
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        try:
            async with self._websession.post(
                self._base_url / "thirdData" / interface,
                data=orjson.dumps(parameters),
                headers={"Content-Type": "application/json", **(headers or {})},
                timeout=_TIMEOUT,
                # A redirect would carry the credentials to another host.
                allow_redirects=False,
            ) as response:
                return response, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            # The text of the original error names the host.
            raise ConnectionFailed(type(err).__name__) from None


def read_answer(interface: str, status: int, content: bytes) -> Answer:
    """Return the answer in an HTTP response, or raise the error that it tells."""
    body: object = None
    with suppress(orjson.JSONDecodeError):
        body = orjson.loads(content)
    if isinstance(body, dict):
        if code := integer(body.get("failCode")):
            raise error_for(interface, code, body.get("message"))
        if body.get("exceptionId"):
            raise RequestRejected
    if status != 200:
        raise error_for_status(status)
    if not content.strip():
        raise ServerBusy("empty answer")
    if not isinstance(body, dict) or body.get("success") is not True:
        raise MalformedResponse("not an answer of a Northbound server")
    params = body.get("params")
    return Answer(
        data=body.get("data"),
        server_time=moment(params.get("currentTime"))
        if isinstance(params, dict)
        else None,
    )
