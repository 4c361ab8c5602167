"""The session of an account: one token, renewed once when the server forgot it."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
import json
import time
from typing import Any, Final, Never, Self

import aiohttp
import orjson
from yarl import URL

from .clock import coming, epoch, lag, past
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
from .models import integer, moment, text

_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=10)
_TOKEN: Final = "XSRF-TOKEN"
# An answer of this many bytes takes several milliseconds to parse.
_LARGE: Final = 500_000
# A token lives for 30 minutes; one that ends during a call is of no use.
_TOKEN_LIFE: Final = 29 * MINUTE
# An account is locked for 30 minutes.
_LOCK_TIME: Final = 31 * MINUTE
# After how many in a row a refusal is believed that may have a passing cause, and after
# how many an empty answer, by which older servers refuse and others fail.
_LOCKS_BELIEVED: Final = 2
_SILENCES_BELIEVED: Final = 8
# Of the five logins in ten minutes, those that are left to the user.
_LOGINS_KEPT_FREE: Final = 2
# How long another client that takes the session is given way.
_LEAST_PATIENCE: Final = TEN_MINUTES
_MOST_PATIENCE: Final = HOUR


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server returned for a call that succeeded."""

    data: object
    server_time: datetime | None
    """The server's clock (`params.currentTime`)."""


@dataclass(slots=True)
class Access:
    """What outlives a session: its token, and what the server lets the account do.

    Moments are monotonic seconds.
    """

    flow_control: FlowControl = field(default_factory=FlowControl)
    token: str | None = field(default=None, repr=False)
    issued: float = 0.0
    used: float = 0.0
    expired_in_use: float | None = None
    """When a token was last seen to expire although it was used."""
    takings: list[float] = field(default_factory=list)
    """When another client ended the session, lately."""
    refused_code: int | None = None
    """The failCode by which the server refused the credentials for good."""
    locks: int = 0
    """Logins that were refused for now, since the last that succeeded."""
    silences: int = 0
    """Logins that were answered by nothing, since the last that succeeded."""
    losses: int = 0
    """Calls in a row whose token was unknown right after the login."""
    paused_until: float = 0.0
    """Until when another login is useless."""

    @property
    def usable(self) -> bool:
        """Whether the token should still be known to the server.

        Some servers renew a token by use, others do not, and nothing tells but an
        expired one. So a token is used until then, once a day; for the rest of the day
        it is replaced in time.
        """
        now = time.monotonic()
        fixed = self.expired_in_use is not None and now - self.expired_in_use < DAY
        since = self.issued if fixed else self.used
        return self.token is not None and now - since < _TOKEN_LIFE

    @property
    def pause(self) -> float:
        """Return the seconds to wait for a login that can succeed."""
        return max(self.paused_until - time.monotonic(), 0.0)

    def renew(self, token: str) -> None:
        """Take the token of a new session, and forget what had kept it from us."""
        self.token = token
        self.issued = self.used = time.monotonic()
        self.refused_code = None
        self.locks = self.silences = 0
        self.paused_until = 0.0

    def lose(self) -> None:
        """Give up a token that the server does not know any more."""
        now = time.monotonic()
        if now - self.issued >= _TOKEN_LIFE:
            self.expired_in_use = now
        else:
            self.takings = [*self.recent_takings, now]
        self.token = None

    @property
    def recent_takings(self) -> list[float]:
        """Return when another client ended the session in the last hour."""
        hour_ago = time.monotonic() - HOUR
        return [at for at in self.takings if at > hour_ago]

    def as_dict(self) -> dict[str, Any]:
        """Return all that is known as what JSON can hold."""
        return {
            "saved": time.time(),
            "flow_control": self.flow_control.as_dict(),
            "token": self.token,
            "issued": epoch(self.issued),
            "used": epoch(self.used),
            "expired_in_use": self.expired_in_use and epoch(self.expired_in_use),
            "takings": [epoch(at) for at in self.takings],
            "refused_code": self.refused_code,
            "locks": self.locks,
            "silences": self.silences,
            "losses": self.losses,
            "paused_until": epoch(self.paused_until),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Restore what `as_dict` returned."""
        behind = lag(state["saved"])
        expired = state["expired_in_use"]
        return cls(
            flow_control=FlowControl.from_dict(state["flow_control"], behind),
            token=text(state["token"]),
            issued=past(state["issued"], behind),
            used=past(state["used"], behind),
            expired_in_use=None if expired is None else past(expired, behind),
            takings=[past(at, behind) for at in state["takings"]],
            refused_code=integer(state["refused_code"]),
            locks=int(state["locks"]),
            silences=int(state["silences"]),
            losses=int(state["losses"]),
            paused_until=coming(state["paused_until"], behind),
        )


class Session:
    """Logs in to one account and sends calls with its token, one after another."""

    def __init__(
        self,
        websession: aiohttp.ClientSession,
        base_url: URL,
        user_name: str,
        system_code: str,
        access: Access | None = None,
    ) -> None:
        """Take the account's credentials, and what is known of it from before."""
        self.access = access or Access()
        self._websession = websession
        self._base_url = base_url
        self._user_name = user_name
        self._system_code = system_code
        self._lock = asyncio.Lock()

    async def call(
        self,
        interface: str,
        parameters: Mapping[str, object],
        patience: float = 0,
    ) -> Answer:
        """Call an interface, logging in before or again where that is needed.

        Raises `SessionTaken` when the server does not know a token that is new, what
        the login raises (`InvalidCredentials`, `AccountLocked`), and
        `ConnectionFailed`, `RateLimited`, `PermissionDenied`, `ServerBusy`,
        `RequestRejected` or `MalformedResponse`. A call that would be refused, or a
        login that cannot succeed, is not sent; up to `patience` seconds are waited.
        """
        while True:
            try:
                async with self._lock:
                    return await self._call(interface, parameters)
            except RateLimited as err:
                if err.retry_after > patience:
                    raise
                await asyncio.sleep(err.retry_after)

    async def _call(self, interface: str, parameters: Mapping[str, object]) -> Answer:
        access = self.access
        self._flow_control.check(interface, _type_of(interface, parameters))
        if access.usable:
            with suppress(SessionTaken):
                return await self._post(interface, parameters)
        self._check_login()
        try:
            await self._log_in_again()
            return await self._post(interface, parameters)
        except SessionTaken as err:
            patience = min(_LEAST_PATIENCE * 2**access.losses, _MOST_PATIENCE)
            access.losses += 1
            access.paused_until = time.monotonic() + patience
            err.retry_after = patience
            raise

    def wait(
        self, interface: str, type_id: int | None = None, reserve: int = 0
    ) -> float:
        """Return the seconds until a call, and `reserve` more, can succeed."""
        wait = self._flow_control.wait(interface, type_id, reserve)
        if self.access.usable:
            return wait
        login = self._flow_control.wait("login", reserve=_LOGINS_KEPT_FREE)
        return max(wait, self.access.pause, login)

    async def log_in(self) -> None:
        """Open a new session (`login`) because the user asks for it."""
        async with self._lock:
            self.access.renew(await self._log_in())

    async def logout(self) -> None:
        """Close the session (`logout`)."""
        async with self._lock:
            if self.access.usable:
                await self._post("logout", {"xsrfToken": self.access.token})
            self.access.token = None

    @property
    def _flow_control(self) -> FlowControl:
        return self.access.flow_control

    def _check_login(self) -> None:
        """Raise what the last login has told, if another would tell nothing new."""
        access = self.access
        if access.refused_code is not None:
            raise InvalidCredentials(access.refused_code)
        if pause := access.pause:
            locked = access.locks or access.silences
            error = AccountLocked if locked else SessionTaken
            raise error("waiting before the next login", retry_after=pause)

    async def _log_in_again(self) -> None:
        """Open a new session.

        The server locks an account after five wrong passwords, so none is sent twice.
        A refusal that may have a passing cause is tried again after the longest time
        that an account is locked, before it is believed.
        """
        access = self.access
        try:
            access.renew(await self._log_in(_LOGINS_KEPT_FREE))
        except (AccountLocked, InvalidCredentials) as err:
            if isinstance(err, AccountLocked):
                access.locks += 1
                sure = access.locks >= _LOCKS_BELIEVED
            else:
                access.silences += err.code is None
                sure = err.code is not None or access.silences >= _SILENCES_BELIEVED
            if sure:
                access.refused_code = getattr(err, "code", None) or 20400
                raise InvalidCredentials(access.refused_code) from err
            access.paused_until = time.monotonic() + _LOCK_TIME
            raise AccountLocked(str(err), retry_after=_LOCK_TIME) from err

    async def _log_in(self, reserve: int = 0) -> str:
        """Return the token of a new session; the account's previous one ends."""
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
        token = self.access.token or ""
        with self._flow_control.call(interface, _type_of(interface, parameters)):
            try:
                response, content = await self._send(
                    interface, parameters, {_TOKEN: token}
                )
                if len(content) < _LARGE:
                    answer = read_answer(interface, response.status, content)
                else:
                    answer = await asyncio.to_thread(
                        read_answer, interface, response.status, content, _parse_gently
                    )
            except SessionTaken:
                self.access.lose()
                raise
        self.access.used = time.monotonic()
        self.access.losses = 0
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
                # A redirect would carry the credentials to another host.
                allow_redirects=False,
            ) as response:
                return response, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            sent = not isinstance(err, aiohttp.ClientConnectorError)
            failure = ConnectionFailed(type(err).__name__, sent=sent)
        # Not in the handler: the original error names the host.
        raise failure


def _type_of(interface: str, parameters: Mapping[str, object]) -> int | None:
    """Return the device type of a call whose quota some servers keep by type."""
    if interface != "getDevRealKpi":
        return None
    return integer(parameters.get("devTypeId"))


def _parse_gently(content: bytes) -> object:
    """Parse JSON in a thread without holding up the others.

    A parser in C lets no other thread run, unless it has to call back.
    """
    return json.loads(
        content, object_hook=lambda members: members, parse_constant=_refuse
    )


def _refuse(constant: str) -> Never:
    """Refuse `NaN` and infinities, which are no JSON."""
    raise ValueError(constant)


def read_answer(
    interface: str,
    status: int,
    content: bytes,
    parse: Callable[[bytes], object] = orjson.loads,
) -> Answer:
    """Return the answer in an HTTP response, or raise the error that it tells."""
    body: object = None
    # What is no JSON, or no text, or too deep to be either.
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
