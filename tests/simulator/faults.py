"""Faults between a client and the cloud.

A fault can delay, change or replace the response of the server.
"""

from abc import ABC, abstractmethod
import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
import gzip
from typing import Any, override

from aiohttp import web
import orjson

type RequestBody = dict[str, Any]
type Payload = dict[str, Any]
type Answer = Payload | web.StreamResponse

HTML_PAGE = b"<!DOCTYPE html>\n<html><head><title>%s</title></head><body></body></html>"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request on its way through the faults to the server."""

    interface: str
    body: RequestBody
    echo: Payload
    request: web.BaseRequest
    closing: asyncio.Event


type Honest = Callable[[], Awaitable[Answer]]


class Fault(ABC):
    """A fault of responses."""

    @abstractmethod
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Return a response; `honest` creates the response without the fault."""


class Rewrite(Fault):
    """Changes the payload of the response."""

    def __init__(self, rewrite: Callable[[Payload], Payload]) -> None:
        """Store the function from payload to payload."""
        self._rewrite = rewrite

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Return the changed payload."""
        payload = await honest()
        return self._rewrite(payload) if isinstance(payload, dict) else payload


def failure(code: int, echo: Payload, message: str | None = None) -> Payload:
    """Return the body of an error, in the format of the servers."""
    if code == 305:
        return {"failCode": 305, "immediately": True, "message": "USER_MUST_RELOGIN"}
    if code == 401:
        return {
            "success": False,
            "failCode": 401,
            "message": "Invalid access to current interface!",
        }
    return {
        "success": False,
        "data": "ACCESS_FREQUENCY_IS_TOO_HIGH" if code == 407 else None,
        "failCode": code,
        "params": echo,
        "message": message,
    }


class FailCode(Fault):
    """Returns an error code."""

    def __init__(self, code: int, **extra: Any) -> None:
        """Store the code, and keys that are added to or replaced in the response."""
        self._code = code
        self._extra = extra

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Return the usual body of the error."""
        return failure(self._code, exchange.echo) | self._extra


class HttpStatus(Fault):
    """Returns an HTTP status."""

    def __init__(
        self, status: int, body: bytes = b"", content_type: str = "application/json"
    ) -> None:
        """Store the parts of the response."""
        self._status = status
        self._body = body
        self._content_type = content_type

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Return the status and the body."""
        return web.Response(
            status=self._status, body=self._body, content_type=self._content_type
        )


class Body(HttpStatus):
    """Returns HTTP 200 with any bytes."""

    def __init__(self, body: bytes, content_type: str = "application/json") -> None:
        """Store the bytes."""
        super().__init__(200, body, content_type)


class Redirect(Fault):
    """Redirects to the same path on another server."""

    def __init__(self, url: str, status: int = 301) -> None:
        """Store the address of the other server."""
        self._url = url
        self._status = status

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Return the redirect."""
        return web.Response(
            status=self._status,
            headers={"Location": self._url + exchange.request.path},
        )


class Compressed(Body):
    """Returns any bytes, compressed to a fraction of their size."""

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Return the compressed bytes."""
        response = await super().answer(exchange, honest)
        assert isinstance(response, web.Response)
        response.enable_compression(web.ContentCoding.gzip)
        return response


class Oversized(Fault):
    """Returns more bytes than any honest answer has, compressed to a fraction."""

    def __init__(self, megabytes: int = 80) -> None:
        """Compress the bytes, which are no JSON before their end."""
        self._body = gzip.compress(b" " * (megabytes << 20))

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Return the compressed bytes."""
        return web.Response(
            body=self._body,
            headers={"Content-Encoding": "gzip"},
            content_type="application/json",
        )


class EmptyBody(HttpStatus):
    """Returns HTTP 200 with an empty body."""

    def __init__(self) -> None:
        """Create the fault."""
        super().__init__(200)


class HtmlPage(HttpStatus):
    """Returns a web page instead of JSON."""

    def __init__(self, status: int = 200) -> None:
        """Store the HTTP status of the page."""
        super().__init__(status, HTML_PAGE % b"FusionSolar", "text/html")


class Gateway403(HttpStatus):
    """Refuses the call like the gateway whose own quota is used up."""

    def __init__(self) -> None:
        """Create the gateway's body."""
        reason = (
            "Request is rejected by api quotaControl. "
            "api:ies_PVMSNbiService_thirdData_1.0.78, key:/getStationList_POST"
        )
        super().__init__(
            403,
            orjson.dumps({"errorCode": "49401021002", "exceptionInfo": reason}),
        )


class GatewayException(HttpStatus):
    """Returns the gateway's exception about a parameter."""

    def __init__(self, parameter: str = "plantCode", status: int = 200) -> None:
        """Store the name of the parameter."""
        body = {
            "exceptionId": "framwork.remote.Paramerror",
            "exceptionType": "ROA_EXFRAME_EXCEPTION",
            "descArgs": None,
            "reasonArgs": [parameter],
            "detailArgs": [f"{parameter} may not be null"],
        }
        super().__init__(status, orjson.dumps(body))


class HalfJson(Fault):
    """Returns the first half of the response."""

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Return the first half of the bytes."""
        payload = await honest()
        if not isinstance(payload, dict):
            return payload
        whole = orjson.dumps(payload)
        return web.Response(
            body=whole[: len(whole) // 2], content_type="application/json"
        )


class Latency(Fault):
    """Delays the response by the computer's clock."""

    def __init__(self, seconds: float) -> None:
        """Store the delay."""
        self._seconds = seconds

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Wait before the response."""
        await asyncio.sleep(self._seconds)
        return await honest()


class DropConnection(Fault):
    """Closes the connection instead of a response."""

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Close the connection."""
        if exchange.request.transport is not None:
            exchange.request.transport.abort()
        return web.Response()


class NeverAnswer(Fault):
    """Keeps the connection open without a response."""

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Wait until the server stops."""
        await exchange.closing.wait()
        return web.Response(status=503)


class Endless(Fault):
    """Returns the first part of a body again and again."""

    def __init__(self, part: bytes, pause: float = 0) -> None:
        """Store the part, and the seconds between two of them."""
        self._part = part
        self._pause = pause

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Send parts until the client closes the connection or the server stops."""
        response = web.StreamResponse()
        await response.prepare(exchange.request)
        with suppress(ConnectionError):
            while not exchange.closing.is_set():
                await response.write(self._part)
                await asyncio.sleep(self._pause)
        return response


class RawHeader(Fault):
    """Returns a success with a header of any bytes, and closes the connection."""

    def __init__(self, header: bytes) -> None:
        """Store the line of the header."""
        self._header = header

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Write the response past the server, which would check the header."""
        if (transport := exchange.request.transport) is not None:
            transport.write(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\n%b\r\n\r\n%b"
                % (self._header, b'{"success":true}')
            )
            transport.close()
        return web.Response()


MOVED: dict[str, Callable[[str], Fault]] = {
    **{
        str(status): partial(Redirect, status=status) for status in (301, 302, 307, 308)
    },
    "gone": lambda _: HttpStatus(410),
    "missing": lambda _: HtmlPage(404),
    "page": lambda _: HtmlPage(),
    "unauthorized": lambda _: HtmlPage(401),
}
"""Answers of a server that has moved to a URL."""


class NullData(Rewrite):
    """Returns success without data."""

    def __init__(self) -> None:
        """Create the fault."""
        super().__init__(lambda payload: payload | {"data": None})


class StringFailCode(Rewrite):
    """Returns the failCode as a string."""

    def __init__(self) -> None:
        """Create the fault."""
        super().__init__(
            lambda payload: payload | {"failCode": str(payload.get("failCode"))}
        )


class _RowFault(Rewrite):
    """Changes the rows of the response."""

    def __init__(self, change: Callable[[Payload], Payload | None]) -> None:
        """Store the function from row to row; None removes the row."""

        def rewrite(payload: Payload) -> Payload:
            if not isinstance(rows := payload.get("data"), list):
                return payload
            changed = [change(row) for row in rows]
            return payload | {"data": [row for row in changed if row is not None]}

        super().__init__(rewrite)


class MissingRows(_RowFault):
    """Removes the rows of some plants or devices."""

    def __init__(self, ids: set[int | str]) -> None:
        """Store plant codes and device IDs."""

        def change(row: Payload) -> Payload | None:
            names = {row.get("devId"), row.get("stationCode"), row.get("id")}
            return None if names & set(ids) else row

        super().__init__(change)


class NullItemMap(_RowFault):
    """Returns null instead of the data items."""

    def __init__(self) -> None:
        """Create the fault."""
        super().__init__(lambda row: row | {"dataItemMap": None})


class EmptyItemMap(_RowFault):
    """Returns no data items."""

    def __init__(self) -> None:
        """Create the fault."""
        super().__init__(lambda row: row | {"dataItemMap": {}})


class StringsForNumbers(_RowFault):
    """Returns the values of data items as strings, like older servers."""

    def __init__(self) -> None:
        """Create the fault."""
        super().__init__(
            lambda row: (
                row
                | {
                    "dataItemMap": {
                        key: str(value) if isinstance(value, int | float) else value
                        for key, value in (row.get("dataItemMap") or {}).items()
                    }
                }
            )
        )


@dataclass(eq=False)
class FaultHandle:
    """An active fault."""

    fault: Fault
    interface: str | None
    times: int | None
    when: Callable[[RequestBody], bool] | None
    _owner: Faults = field(repr=False)

    def remove(self) -> None:
        """Remove the fault."""
        self._owner.discard(self)

    def strikes(self, interface: str, body: RequestBody) -> bool:
        """Return whether the fault applies to a call, and count the call."""
        if self.interface not in (None, interface):
            return False
        if self.when is not None and not self.when(body):
            return False
        if self.times is not None:
            self.times -= 1
            if self.times <= 0:
                self.remove()
        return True


class Faults:
    """The active faults, the first one outermost."""

    def __init__(self) -> None:
        """Start without faults."""
        self._handles: list[FaultHandle] = []

    def add(
        self,
        fault: Fault,
        interface: str | None = None,
        times: int | None = None,
        when: Callable[[RequestBody], bool] | None = None,
    ) -> FaultHandle:
        """Add a fault for a number of calls or until it is removed."""
        handle = FaultHandle(fault, interface, times, when, self)
        self._handles.append(handle)
        return handle

    def discard(self, handle: FaultHandle) -> None:
        """Remove a fault."""
        if handle in self._handles:
            self._handles.remove(handle)

    def clear(self) -> None:
        """Remove all faults."""
        self._handles.clear()

    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Pass a call through all faults that apply to it."""
        for handle in reversed(tuple(self._handles)):
            if handle.strikes(exchange.interface, exchange.body):
                honest = _wrap(handle.fault, exchange, honest)
        return await honest()


def _wrap(fault: Fault, exchange: Exchange, honest: Honest) -> Honest:
    async def answer() -> Answer:
        return await fault.answer(exchange, honest)

    return answer
