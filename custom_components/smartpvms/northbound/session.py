"""Session of an account: one token, renewed once if the server rejects it."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
import json
import re
import socket
import time
from typing import Any, Final, Never

import aiohttp
import orjson
from yarl import URL

from .clock import Moment, PastMoment, limited, seconds_until
from .errors import (
    OPTIONAL,
    AccountLocked,
    ConnectionFailed,
    FailCode,
    HttpUnauthorized,
    InvalidCredentials,
    MalformedResponse,
    PermissionDenied,
    RateLimited,
    RequestRejected,
    ServerBusy,
    ServerMoved,
    SessionTaken,
    error_for,
    error_for_status,
)
from .flow_control import DAY, HOUR, MAX_DOUBLINGS, MINUTE, TEN_MINUTES, FlowControl
from .hosts import redirect_host
from .models import integer, moment, number
from .service import Service, ServiceState

_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=10)
_TOKEN: Final = "XSRF-TOKEN"
# Paths of interfaces that are not under the common one.
_PATHS: Final = {"device/history": "rest/openapi/pvms/nbi/v1/device/history"}
# HTTP statuses of an address that has moved.
_REDIRECTS: Final = frozenset({301, 302, 307, 308})
_GONE: Final = 410
# Errors of OpenSSL and c-ares: the certificate is one of other names or addresses, and
# there is no such name.
_OTHER_NAMES: Final = frozenset({62, 64})
_NO_SUCH_NAME: Final = 4
# Some routers without a connection answer that no name exists.
_EXISTING_NAME: Final = "huawei.com"
# Other characters are invalid in a header.
_VALID_TOKEN: Final = re.compile(r"[!-~]+")
# Number of bytes that take several milliseconds to parse.
_LARGE: Final = 500_000
# Limits of an answer: bytes after decompression, values, and levels of lists and objects.
# A small compressed answer can need gigabytes of memory.
_MAX_SIZE: Final = 64 * 1024 * 1024
_MAX_VALUES: Final = 5_000_000
_MAX_LEVELS: Final = 32
_CONTAINERS: Final = frozenset({dict, list})
# Tokens are valid for 30 minutes; the margin covers a call in progress.
_TOKEN_LIFE: Final = 29 * MINUTE
# The server locks an account for 30 minutes.
_LOCK_TIME: Final = 31 * MINUTE
# Number of consecutive refused logins, and of empty login responses, that count as wrong
# credentials. An empty response means wrong credentials, or a failure of the server.
_REFUSED_LOGINS: Final = 2
_EMPTY_LOGINS: Final = 8
# Logins reserved for the user, of the five allowed in ten minutes.
_RESERVED_LOGINS: Final = 2
# Pause after another client has taken over the session; it doubles each time.
_MIN_PAUSE: Final = TEN_MINUTES
_MAX_PAUSE: Final = HOUR


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
    issued: PastMoment | None = None
    used: PastMoment | None = None
    expired_in_use: PastMoment | None = None
    """Last time at which a token expired although it was in use."""
    takeovers: list[PastMoment] = field(default_factory=list)
    """Times at which another client took over the session."""
    refused_code: int | None = None
    """The failCode with which the server refused the credentials."""
    refused_logins: int = 0
    """Logins refused for a possibly temporary cause since the last successful login."""
    empty_logins: int = 0
    """Empty login responses since the last successful login."""
    lost_tokens: int = 0
    """Consecutive calls whose token was rejected right after the login."""
    paused_until: Moment | None = None
    """Time before which no login can succeed."""
    refused: PastMoment | None = None
    """Time at which the server refused the credentials."""
    service: Service = field(default_factory=Service)
    unanswered: set[str] = field(default_factory=set, init=False)
    """Optional interfaces without an answer since the last login for one of their calls.

    Other interfaces may accept a token that they reject.
    """
    lock: asyncio.Lock = field(
        default_factory=asyncio.Lock, init=False, repr=False, compare=False
    )
    """Held during a call: the server allows one call at a time."""

    def __post_init__(self) -> None:
        """Correct values that a damaged file or a wrong clock has changed."""
        if self.token is not None and not _VALID_TOKEN.fullmatch(self.token):
            self.token = None
        # A stored pause can end too late.
        self.paused_until = limited(self.paused_until, _MAX_PAUSE)

    @property
    def has_token(self) -> bool:
        """Return whether there is a token that is probably valid.

        Some servers extend the validity of a token with each use. It counts from the
        last use; for a day after a token expired in use, it counts from the login.
        """
        now = time.monotonic()
        fixed = self.expired_in_use is not None and now - self.expired_in_use < DAY
        since = self.issued if fixed else self.used
        has_time = since is not None and now - since < _TOKEN_LIFE
        return self.token is not None and has_time

    @property
    def pause(self) -> float:
        """Return the seconds until a login can succeed."""
        return seconds_until(self.paused_until)

    @property
    def service_state(self) -> ServiceState:
        """Return the state of the server's service to the account."""
        if self.refused_code is not None:
            return ServiceState.LOGIN_NEEDED
        return self.service.state

    @property
    def service_since(self) -> PastMoment | None:
        """Return since when this state lasts."""
        return self.service.since if self.refused_code is None else self.refused

    def set_token(self, token: str) -> None:
        """Set the token of a new session, and clear the login errors."""
        self.token = token
        self.issued = self.used = time.monotonic()
        self.refused_code = None
        self.refused_logins = self.empty_logins = 0
        self.paused_until = None

    def drop_token(self) -> None:
        """Remove a rejected token, and record its expiry or a takeover."""
        now = time.monotonic()
        if self.issued is None or now - self.issued >= _TOKEN_LIFE:
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
    """Makes the calls of one account, one at a time, and logs in if necessary."""

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
        max_wait: float = 0,
    ) -> Answer:
        """Call an interface, with a login before it if there is no valid token.

        Raises `SessionTaken` if the server rejects a new token, `InvalidCredentials` or
        `AccountLocked` if it refuses the login, and `ConnectionFailed`, `RateLimited`,
        `PermissionDenied`, `MembersRefused`, `ServerBusy`, `RequestRejected` or
        `MalformedResponse`.
        Nothing is sent if flow control does not allow the call within `max_wait`
        seconds, or if the login cannot succeed.
        """
        while True:
            try:
                async with self.state.lock:
                    return await self._call(interface, parameters)
            except RateLimited as err:
                if err.retry_after > max_wait:
                    raise
                await asyncio.sleep(err.retry_after)

    async def _call(self, interface: str, parameters: Mapping[str, object]) -> Answer:
        state = self.state
        self._flow_control.check(interface, _type_of(interface, parameters))
        if state.has_token:
            try:
                return await self._post(interface, parameters)
            except SessionTaken as err:
                self._check_dropped(interface, err)
        self._check_login()
        try:
            await self._log_in_again()
            if interface in OPTIONAL:
                state.unanswered.add(interface)
            return await self._post(interface, parameters)
        except SessionTaken as err:
            self._check_dropped(interface, err)
            doublings = min(state.lost_tokens, MAX_DOUBLINGS)
            pause = min(_MIN_PAUSE * 2**doublings, _MAX_PAUSE)
            state.lost_tokens += 1
            state.paused_until = time.monotonic() + pause
            err.retry_after = pause
            raise

    def calls_a_day(self, interface: str) -> int | None:
        """Return the number of calls that an interface with a daily quota allows."""
        quota = self._flow_control.quota(interface)
        return quota.calls if quota else None

    def wait(
        self, interface: str, type_id: int | None = None, reserve: int = 0
    ) -> float:
        """Return the seconds until a call, and `reserve` more, can succeed.

        Without a token, includes the wait for the login.
        """
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
        """Raise the stored login error if another login cannot succeed."""
        state = self.state
        if state.refused_code is not None:
            raise InvalidCredentials(state.refused_code)
        if pause := state.pause:
            locked = state.refused_logins or state.empty_logins
            error = AccountLocked if locked else SessionTaken
            raise error("waiting before the next login", retry_after=pause)

    def _check_dropped(self, interface: str, err: SessionTaken) -> None:
        """Raise `PermissionDenied` if the rejected token was kept for other calls."""
        if self.state.has_token:
            is_http = isinstance(err, HttpUnauthorized)
            raise PermissionDenied(
                interface, 401 if is_http else FailCode.NOT_LOGGED_IN
            ) from err

    async def _log_in_again(self) -> None:
        """Open a new session.

        The server locks an account after five wrong passwords, so refused credentials
        are not tried again. A refusal with a possibly temporary cause is tried again
        once, and an empty response seven times, each after the account's lock time.
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
                state.refused_code = (
                    getattr(err, "code", None) or FailCode.LOGIN_REFUSED
                )
                state.refused = time.monotonic()
                raise InvalidCredentials(state.refused_code) from err
            state.paused_until = time.monotonic() + _LOCK_TIME
            raise AccountLocked(str(err), retry_after=_LOCK_TIME) from err

    async def _log_in(self, reserve: int = 0) -> str:
        """Return the token of a new session, which ends the previous session."""
        with (
            self._flow_control.call("login", reserve=reserve),
            self.state.service.call(is_login=True),
        ):
            response, content = await self._send(
                "login", {"userName": self._user_name, "systemCode": self._system_code}
            )
            cookie = response.cookies.get(_TOKEN)
            token = response.headers.get(_TOKEN) or (cookie.value if cookie else None)
            # Older servers return an empty body for wrong credentials.
            if response.status == 200 and not content and not token:
                raise InvalidCredentials
            read_answer("login", response.status, content)
            if not token or not _VALID_TOKEN.fullmatch(token):
                raise MalformedResponse("no valid token in the login")
            return token

    async def _post(self, interface: str, parameters: Mapping[str, object]) -> Answer:
        token = self.state.token or ""
        with (
            self._flow_control.call(interface, _type_of(interface, parameters)),
            self.state.service.call(),
        ):
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
                if interface not in self.state.unanswered:
                    self.state.drop_token()
                raise
        self.state.unanswered.discard(interface)
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
            raise ConnectionFailed("session closed", sent=False)
        try:
            async with self._websession.post(
                self._base_url / _PATHS.get(interface, f"thirdData/{interface}"),
                data=orjson.dumps(parameters),
                headers={"Content-Type": "application/json", **(headers or {})},
                timeout=_TIMEOUT,
                # A redirect would send the credentials to another host.
                allow_redirects=False,
            ) as response:
                self._check_address(interface, response)
                return response, await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            failure = _connection_failure(err)
            if _is_unknown_name(err) and await _exists(_EXISTING_NAME):
                failure = ServerMoved(str(failure), sent=False)
        # Raised outside the handler, since the original error contains the host.
        raise failure

    def _check_address(self, interface: str, response: aiohttp.ClientResponse) -> None:
        """Raise `ServerMoved` if the address redirects to another host, or is gone."""
        if response.status == _GONE and interface not in OPTIONAL:
            raise ServerMoved(f"HTTP {_GONE}")
        if response.status in _REDIRECTS:
            location = response.headers.get("Location", "")
            if host := redirect_host(self._base_url, location):
                raise ServerMoved(f"HTTP {response.status}", host)


def _connection_failure(error: Exception) -> ConnectionFailed:
    """Return the error for a call without a response."""
    reason = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        if getattr(cause, "verify_code", None) in _OTHER_NAMES:
            return ServerMoved(reason, sent=False)
    sent = not isinstance(error, aiohttp.ClientConnectorError)
    return ConnectionFailed(reason, sent=sent)


def _is_unknown_name(error: Exception) -> bool:
    """Return whether the resolver answers that there is no such host."""
    if not isinstance(error, aiohttp.ClientConnectorDNSError):
        return False
    if isinstance(error.os_error, socket.gaierror):
        return error.os_error.errno == socket.EAI_NONAME
    cause = error.os_error.__cause__
    return cause is not None and cause.args[:1] == (_NO_SUCH_NAME,)


async def _exists(name: str) -> bool:
    """Return whether a host has an address."""
    resolver = aiohttp.DefaultResolver()
    try:
        await resolver.resolve(name)
    except OSError:
        return False
    else:
        return True
    finally:
        await resolver.close()


def _type_of(interface: str, parameters: Mapping[str, object]) -> int | None:
    """Return the device type of a call whose quota some servers count by type."""
    if interface != "getDevRealKpi":
        return None
    return integer(parameters.get("devTypeId"))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of a response.

    `ClientResponse.read` would decompress a body of any size.
    """
    chunks = []
    size = 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > _MAX_SIZE:
            raise MalformedResponse("answer too large")
    return b"".join(chunks)


def _parse(content: bytes) -> object:
    """Parse JSON."""
    try:
        return orjson.loads(content)
    except ValueError:
        # One text with half of a character makes orjson reject the whole answer.
        return _parse_in_thread(content)


def _parse_in_thread(content: bytes) -> object:
    """Parse JSON without blocking other threads.

    The C parser holds the interpreter lock except while it calls the hook.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise ValueError("too many values")
    return json.loads(
        content,
        object_hook=lambda members: members,
        # Numbers beyond the range of floats and 64-bit integers are unknown.
        parse_float=number,
        parse_int=integer,
        parse_constant=_refuse,
    )


def _refuse(constant: str) -> Never:
    """Reject `NaN` and infinities, which are not valid JSON."""
    raise ValueError(constant)


def _is_too_deep(body: object) -> bool:
    level: list[Any] = [body] if type(body) in _CONTAINERS else []
    for _ in range(_MAX_LEVELS):
        level = [
            part
            for each in level
            for part in (each.values() if type(each) is dict else each)
            if type(part) in _CONTAINERS
        ]
    return bool(level)


def read_answer(
    interface: str,
    status: int,
    content: bytes,
    parse: Callable[[bytes], object] = _parse,
) -> Answer:
    """Return the answer in an HTTP response, or raise the error in it."""
    body: object = None
    # Invalid JSON, invalid text, or too deeply nested.
    with suppress(ValueError, RecursionError):
        body = parse(content)
    if _is_too_deep(body):
        body = None
    if isinstance(body, dict):
        if code := integer(body.get("failCode")):
            raise error_for(interface, code, body.get("message"))
        if body.get("exceptionId"):
            raise RequestRejected
    if status != 200:
        raise error_for_status(interface, status)
    if not content.strip():
        raise ServerBusy("empty response")
    if not isinstance(body, dict) or body.get("success") is not True:
        raise MalformedResponse("not a Northbound response")
    params = body.get("params")
    return Answer(
        data=body.get("data"),
        server_time=moment(params.get("currentTime"))
        if isinstance(params, dict)
        else None,
    )
