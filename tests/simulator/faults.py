"""Everything that can go wrong between a client and the cloud, on demand.

A fault stands between the request and the honest answer: it may delay it, change it,
or answer in its place.
"""

from abc import ABC, abstractmethod
import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, override

from aiohttp import web
import orjson

type RequestBody = dict[str, Any]
type Payload = dict[str, Any]
type Answer = Payload | web.StreamResponse

HTML_PAGE = b"<!DOCTYPE html>\n<html><head><title>%s</title></head><body></body></html>"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request on its way through the faults to the honest server."""

    interface: str
    body: RequestBody
    echo: Payload
    request: web.Request
    closing: asyncio.Event


type Honest = Callable[[], Awaitable[Answer]]


class Fault(ABC):
    """A way to answer wrongly."""

    @abstractmethod
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Answer the request; `honest` is what would be answered without the fault."""


class Rewrite(Fault):
    """Change the payload of the honest answer."""

    def __init__(self, rewrite: Callable[[Payload], Payload]) -> None:
        """Take the function from payload to payload."""
        self._rewrite = rewrite

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Pass the honest payload through the function."""
        payload = await honest()
        return self._rewrite(payload) if isinstance(payload, dict) else payload


def failure(code: int, echo: Payload, message: str | None = None) -> Payload:
    """Return the body of an error, in the form that servers give it."""
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
    """Answer with an error code."""

    def __init__(self, code: int, **extra: Any) -> None:
        """Take the code, and keys to add to the answer or to replace in it."""
        self._code = code
        self._extra = extra

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Answer with the error's usual body."""
        return failure(self._code, exchange.echo) | self._extra


class HttpStatus(Fault):
    """Answer with an HTTP status."""

    def __init__(
        self, status: int, body: bytes = b"", content_type: str = "application/json"
    ) -> None:
        """Take what the response consists of."""
        self._status = status
        self._body = body
        self._content_type = content_type

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Answer with the status and the body."""
        return web.Response(
            status=self._status, body=self._body, content_type=self._content_type
        )


class Body(HttpStatus):
    """Answer with HTTP 200 and any bytes."""

    def __init__(self, body: bytes, content_type: str = "application/json") -> None:
        """Take the bytes."""
        super().__init__(200, body, content_type)


class EmptyBody(HttpStatus):
    """Answer with HTTP 200 and nothing."""

    def __init__(self) -> None:
        """Prepare an empty answer."""
        super().__init__(200)


class HtmlPage(HttpStatus):
    """Answer with a web page where JSON was expected."""

    def __init__(self, status: int = 200) -> None:
        """Take the HTTP status of the page."""
        super().__init__(status, HTML_PAGE % b"FusionSolar", "text/html")


class Gateway403(HttpStatus):
    """Refuse the call at the gateway, as it does when its own quota is used up."""

    def __init__(self) -> None:
        """Prepare the gateway's body."""
        reason = (
            "Request is rejected by api quotaControl. "
            "api:ies_PVMSNbiService_thirdData_1.0.78, key:/getStationList_POST"
        )
        super().__init__(
            403,
            orjson.dumps({"errorCode": "49401021002", "exceptionInfo": reason}),
        )


class GatewayException(HttpStatus):
    """Answer with the gateway's exception about a parameter."""

    def __init__(self, parameter: str = "plantCode", status: int = 200) -> None:
        """Take the parameter to complain about."""
        body = {
            "exceptionId": "framwork.remote.Paramerror",
            "exceptionType": "ROA_EXFRAME_EXCEPTION",
            "descArgs": None,
            "reasonArgs": [parameter],
            "detailArgs": [f"{parameter} may not be null"],
        }
        super().__init__(status, orjson.dumps(body))


class HalfJson(Fault):
    """Cut the honest answer in the middle."""

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Answer with the first half of the bytes."""
        payload = await honest()
        if not isinstance(payload, dict):
            return payload
        whole = orjson.dumps(payload)
        return web.Response(
            body=whole[: len(whole) // 2], content_type="application/json"
        )


class Latency(Fault):
    """Answer late, by the computer's clock."""

    def __init__(self, seconds: float) -> None:
        """Take the delay."""
        self._seconds = seconds

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Wait before answering honestly."""
        await asyncio.sleep(self._seconds)
        return await honest()


class DropConnection(Fault):
    """Close the connection instead of answering."""

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Cut the line."""
        if exchange.request.transport is not None:
            exchange.request.transport.abort()
        return web.Response()


class NeverAnswer(Fault):
    """Keep the connection open and say nothing."""

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Wait until the server closes."""
        await exchange.closing.wait()
        return web.Response(status=503)


class NullData(Rewrite):
    """Answer with success and no data."""

    def __init__(self) -> None:
        """Prepare the rewriting."""
        super().__init__(lambda payload: payload | {"data": None})


class StringFailCode(Rewrite):
    """Send the failCode as a string."""

    def __init__(self) -> None:
        """Prepare the rewriting."""
        super().__init__(
            lambda payload: payload | {"failCode": str(payload.get("failCode"))}
        )


class _RowFault(Rewrite):
    """Change the rows of the honest answer."""

    def __init__(self, change: Callable[[Payload], Payload | None]) -> None:
        """Take the function from row to row; None leaves the row out."""

        def rewrite(payload: Payload) -> Payload:
            if not isinstance(rows := payload.get("data"), list):
                return payload
            changed = [change(row) for row in rows]
            return payload | {"data": [row for row in changed if row is not None]}

        super().__init__(rewrite)


class MissingRows(_RowFault):
    """Leave out the rows of some plants or devices."""

    def __init__(self, ids: set[int | str]) -> None:
        """Take plant codes and device ids."""

        def change(row: Payload) -> Payload | None:
            names = {row.get("devId"), row.get("stationCode"), row.get("id")}
            return None if names & set(ids) else row

        super().__init__(change)


class NullItemMap(_RowFault):
    """Send null where the data items should be."""

    def __init__(self) -> None:
        """Prepare the rewriting."""
        super().__init__(lambda row: row | {"dataItemMap": None})


class EmptyItemMap(_RowFault):
    """Send no data items."""

    def __init__(self) -> None:
        """Prepare the rewriting."""
        super().__init__(lambda row: row | {"dataItemMap": {}})


class StringsForNumbers(_RowFault):
    """Send the values of data items as strings, as older servers do."""

    def __init__(self) -> None:
        """Prepare the rewriting."""
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
    """A fault that is in place."""

    fault: Fault
    interface: str | None
    times: int | None
    when: Callable[[RequestBody], bool] | None
    _owner: Faults = field(repr=False)

    def remove(self) -> None:
        """Take the fault away."""
        self._owner.discard(self)

    def strikes(self, interface: str, body: RequestBody) -> bool:
        """Tell whether the fault concerns a call, and count it."""
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
    """The faults that are in place, the first one outermost."""

    def __init__(self) -> None:
        """Start without any."""
        self._handles: list[FaultHandle] = []

    def add(
        self,
        fault: Fault,
        interface: str | None = None,
        times: int | None = None,
        when: Callable[[RequestBody], bool] | None = None,
    ) -> FaultHandle:
        """Put a fault in place, for some calls or until it is removed."""
        handle = FaultHandle(fault, interface, times, when, self)
        self._handles.append(handle)
        return handle

    def discard(self, handle: FaultHandle) -> None:
        """Take one fault away."""
        if handle in self._handles:
            self._handles.remove(handle)

    def clear(self) -> None:
        """Take all faults away."""
        self._handles.clear()

    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Answer a call through all faults that concern it."""
        for handle in reversed(tuple(self._handles)):
            if handle.strikes(exchange.interface, exchange.body):
                honest = _wrap(handle.fault, exchange, honest)
        return await honest()


def _wrap(fault: Fault, exchange: Exchange, honest: Honest) -> Honest:
    async def answer() -> Answer:
        return await fault.answer(exchange, honest)

    return answer
