"""Session of an account: one token, renewed once if the server rejects it."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
import json
import time
from typing import Final, Never

import aiohttp
import orjson
from yarl import URL

from .clock import Moment, PastMoment
from .errors import (
    AccountLocked,
    ConnectionFailed,
    InvalidCredentials,
    MalformedResponse,
    RateLimited,
    RequestRejected,
    ServerBusy,
    SessionTaken,
    error_for,
    error_for_status,
)
from .flow_control import DAY, HOUR, MINUTE, TEN_MINUTES, FlowControl
from .models import integer, moment

_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=10)
_TOKEN: Final = "XSRF-TOKEN"
# An answer of this many bytes takes several milliseconds to parse.
_LARGE: Final = 500_000
# The server keeps a token for 30 minutes; the margin covers a call in progress.
_TOKEN_LIFE: Final = 29 * MINUTE
# The server locks an account for 30 minutes.
_LOCK_TIME: Final = 31 * MINUTE
# Consecutive refusals and empty login responses that are treated as wrong credentials.
# Older servers send an empty response for wrong credentials, others on a failure.
_REFUSED_LOGINS: Final = 2
_EMPTY_LOGINS: Final = 8
# Logins reserved for the user, of the five allowed in ten minutes.
_RESERVED_LOGINS: Final = 2
# Shortest and longest pause after another client has taken over the session.
_SHORTEST_PAUSE: Final = TEN_MINUTES
_LONGEST_PAUSE: Final = HOUR


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of the server to a successful call."""

    data: object
    server_time: datetime | None
    """The server's clock (`params.currentTime`)."""


@dataclass(slots=True)
class SessionState:
    """Session state, shared by all clients of an account and persisted."""

    flow_control: FlowControl = field(default_factory=FlowControl)
    token: str | None = field(default=None, repr=False)
    issued: PastMoment = 0.0
    used: PastMoment = 0.0
    expired_in_use: PastMoment | None = None
    """Time at which a token last expired despite being used."""
    takeovers: list[PastMoment] = field(default_factory=list)
    """Times at which another client took over the session."""
    refused_code: int | None = None
    """The failCode with which the server refused the credentials."""
    refused_logins: int = 0
    """Logins refused for a possibly temporary cause since the last success."""
    empty_logins: int = 0
    """Empty login responses since the last successful login."""
    lost_tokens: int = 0
    """Consecutive calls whose token was rejected right after the login."""
    paused_until: Moment = 0.0
    """Time before which no login can succeed."""
    lock: asyncio.Lock = field(
        default_factory=asyncio.Lock, init=False, repr=False, compare=False
    )
    """Held during a call: the server allows one call at a time."""

    @property
    def has_token(self) -> bool:
        """Whether there is a token that should still be valid.

        Some servers extend the life of a token when it is used, others do not. Its life
        counts from the last use, or from the login for a day after a used token has
        expired.
        """
        now = time.monotonic()
        fixed = self.expired_in_use is not None and now - self.expired_in_use < DAY
        since = self.issued if fixed else self.used
        return self.token is not None and now - since < _TOKEN_LIFE

    @property
    def pause(self) -> float:
        """Return the seconds until a login can succeed."""
        return max(self.paused_until - time.monotonic(), 0.0)

    def set_token(self, token: str) -> None:
        """Set the token of a new session, and clear the login errors."""
        self.token = token
        self.issued = self.used = time.monotonic()
        self.refused_code = None
        self.refused_logins = self.empty_logins = 0
        self.paused_until = 0.0

    def drop_token(self) -> None:
        """Remove a rejected token, and record its expiry or a takeover."""
        now = time.monotonic()
        if now - self.issued >= _TOKEN_LIFE:
            self.expired_in_use = now
        else:
            self.takeovers = [*self.recent_takeovers, now]
        self.token = None

    @property
    def recent_takeovers(self) -> list[PastMoment]:
        """Return the takeovers of the last hour."""
        hour_ago = time.monotonic() - HOUR
        return [at for at in self.takeovers if at > hour_ago]


class Session:
    """Sends calls to one account, one at a time, and logs in if necessary."""

    def __init__(
        self,
        websession: aiohttp.ClientSession,
        base_url: URL,
        user_name: str,
        system_code: str,
        state: SessionState | None = None,
    ) -> None:
        """Set the credentials and the state of the account."""
        self.state = state or SessionState()
        self._websession = websession
        self._base_url = base_url
        self._user_name = user_name
        self._system_code = system_code

    async def call(
        self,
        interface: str,
        parameters: Mapping[str, object],
        patience: float = 0,
    ) -> Answer:
        """Call an interface; log in first if there is no valid token.

        Raises `SessionTaken` if the server rejects a new token, the errors of the login
        (`InvalidCredentials`, `AccountLocked`), and `ConnectionFailed`, `RateLimited`,
        `PermissionDenied`, `ServerBusy`, `RequestRejected` or `MalformedResponse`.
        Raises them without sending a call that flow control does not allow within
        `patience` seconds, or a login that cannot succeed.
        """
        while True:
            try:
                async with self.state.lock:
                    return await self._call(interface, parameters)
            except RateLimited as err:
                if err.retry_after > patience:
                    raise
                await asyncio.sleep(err.retry_after)

    async def _call(self, interface: str, parameters: Mapping[str, object]) -> Answer:
        state = self.state
        self._flow_control.check(interface, _type_of(interface, parameters))
        if state.has_token:
            with suppress(SessionTaken):
                return await self._post(interface, parameters)
        self._check_login()
        try:
            await self._log_in_again()
            return await self._post(interface, parameters)
        except SessionTaken as err:
            pause = min(_SHORTEST_PAUSE * 2**state.lost_tokens, _LONGEST_PAUSE)
            state.lost_tokens += 1
            state.paused_until = time.monotonic() + pause
            err.retry_after = pause
            raise

    def wait(
        self, interface: str, type_id: int | None = None, reserve: int = 0
    ) -> float:
        """Return the seconds until a call, and `reserve` more, can succeed."""
        wait = self._flow_control.wait(interface, type_id, reserve)
        if self.state.has_token:
            return wait
        login = self._flow_control.wait("login", reserve=_RESERVED_LOGINS)
        return max(wait, self.state.pause, login)

    async def log_in(self) -> None:
        """Open a new session (`login`) at the user's request."""
        async with self.state.lock:
            self.state.set_token(await self._log_in())

    async def logout(self) -> None:
        """Close the session (`logout`)."""
        async with self.state.lock:
            if self.state.has_token:
                await self._post("logout", {"xsrfToken": self.state.token})
            self.state.token = None

    @property
    def _flow_control(self) -> FlowControl:
        return self.state.flow_control

    def _check_login(self) -> None:
        """Raise the stored login error while retrying is pointless."""
        state = self.state
        if state.refused_code is not None:
            raise InvalidCredentials(state.refused_code)
        if pause := state.pause:
            locked = state.refused_logins or state.empty_logins
            error = AccountLocked if locked else SessionTaken
            raise error("waiting before the next login", retry_after=pause)

    async def _log_in_again(self) -> None:
        """Open a new session.

        The server locks an account after five wrong passwords, so a refusal of the
        credentials is final at once. A refusal with a possibly temporary cause is final
        the second time, and an empty response the eighth time; the next login waits
        until the longest lock has ended.
        """
        state = self.state
        try:
            state.set_token(await self._log_in(_RESERVED_LOGINS))
        except (AccountLocked, InvalidCredentials) as err:
            if isinstance(err, AccountLocked):
                state.refused_logins += 1
                is_final = state.refused_logins >= _REFUSED_LOGINS
            else:
                state.empty_logins += err.code is None
                is_final = err.code is not None or state.empty_logins >= _EMPTY_LOGINS
            if is_final:
                state.refused_code = getattr(err, "code", None) or 20400
                raise InvalidCredentials(state.refused_code) from err
            state.paused_until = time.monotonic() + _LOCK_TIME
            raise AccountLocked(str(err), retry_after=_LOCK_TIME) from err

    async def _log_in(self, reserve: int = 0) -> str:
        """Return the token of a new session, which ends the account's previous one."""
        with self._flow_control.call("login", reserve=reserve):
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

    async def _post(self, interface: str, parameters: Mapping[str, object]) -> Answer:
        token = self.state.token or ""
        with self._flow_control.call(interface, _type_of(interface, parameters)):
            try:
                response, content = await self._send(
                    interface, parameters, {_TOKEN: token}
                )
                if len(content) < _LARGE:
                    answer = read_answer(interface, response.status, content)
                else:
                    answer = await asyncio.to_thread(
                        read_answer,
                        interface,
                        response.status,
                        content,
                        _parse_in_thread,
                    )
            except SessionTaken:
                self.state.drop_token()
                raise
        self.state.used = time.monotonic()
        self.state.lost_tokens = 0
        return answer

    async def _send(
        self,
        interface: str,
        parameters: Mapping[str, object],
        headers: Mapping[str, str] | None = None,
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        if self._websession.closed:
            raise ConnectionFailed("closed", sent=False)
        try:
            async with self._websession.post(
                self._base_url / "thirdData" / interface,
                data=orjson.dumps(parameters),
                headers={"Content-Type": "application/json", **(headers or {})},
                timeout=_TIMEOUT,
                # A redirect would send the credentials to another host.
                allow_redirects=False,
            ) as response:
                return response, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            sent = not isinstance(err, aiohttp.ClientConnectorError)
            failure = ConnectionFailed(type(err).__name__, sent=sent)
        # Outside the handler, since the original error contains the host.
        raise failure


def _type_of(interface: str, parameters: Mapping[str, object]) -> int | None:
    """Return the device type if some servers count the interface's quota by type."""
    if interface != "getDevRealKpi":
        return None
    return integer(parameters.get("devTypeId"))


def _parse_in_thread(content: bytes) -> object:
    """Parse JSON without blocking other threads.

    The C parser holds the interpreter lock except while it calls the hook.
    """
    return json.loads(
        content, object_hook=lambda members: members, parse_constant=_refuse
    )


def _refuse(constant: str) -> Never:
    """Reject `NaN` and infinities, which are not valid JSON."""
    raise ValueError(constant)


def read_answer(
    interface: str,
    status: int,
    content: bytes,
    parse: Callable[[bytes], object] = orjson.loads,
) -> Answer:
    """Return the answer in an HTTP response, or raise the error in it."""
    body: object = None
    # Invalid JSON, invalid text, or too deeply nested.
    with suppress(ValueError, RecursionError):
        body = parse(content)
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
