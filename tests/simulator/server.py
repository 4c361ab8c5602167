"""The server: one account of the Northbound API over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
import ssl
from typing import Any, Literal, override

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
import orjson

from . import truth
from .account import Account, LoginRefused
from .alarms import Alarms
from .clock import Clock, RealClock
from .cloud import Change, Cloud, Distortion, Outage
from .faults import HTML_PAGE, Answer, Exchange, Faults, Payload, failure
from .interfaces import Interfaces, Refusal
from .items import device_items, plant_items
from .plants import Home
from .quotas import (
    NONE,
    OLD,
    PER_TYPE,
    PUBLISHED,
    QUICK,
    WITHOUT_HISTORY,
    FlowControl,
    Quota,
    Windows,
)
from .reports import Reports

_HEADERS = {
    "Server": "product only",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}
_GREETING = (
    "Northbound API Reference: "
    "https://info.support.huawei.com/DpinfoAppBiz/#/u?i=1C30D7It&l=en_US"
)
_LOOPBACK = "127.0.0.1"
type Quotas = bool | Literal["pooled", "per type", "old", "all but history", "quick"]

_QUOTAS: dict[Quotas, dict[str, Quota]] = {
    True: PUBLISHED,
    "pooled": PUBLISHED,
    "per type": PER_TYPE,
    "old": OLD,
    "all but history": WITHOUT_HISTORY,
    "quick": QUICK,
    False: NONE,
}


@dataclass(slots=True)
class Call:
    """A call of a client."""

    at: datetime
    interface: str
    body: Any
    status: int = 0
    fail_code: int | None = None
    refused: bool = False
    token: str | None = field(default=None, repr=False)


class Simulator:
    """A cloud with one account, and controls of both."""

    def __init__(
        self,
        home: Home,
        clock: Clock | None = None,
        user_name: str = "demo_api",
        system_code: str = "Simulated-1",
        quotas: Quotas = True,
        windows: Windows = "sliding",
        daily_code: int = 407,
        session: Literal["sliding", "fixed"] = "sliding",
        account: Literal["new", "old"] = "new",
    ) -> None:
        """Create the cloud of a home."""
        self.home = home
        self.clock = clock or RealClock()
        self.account = Account(self.clock, user_name, system_code, session)
        # An account has one of the two plant lists.
        refused = "getStationList" if account == "new" else "stations"
        # Only newer servers have the history of single devices.
        self.account.withdrawn |= {refused, "device/history"}
        self.faults = Faults()
        self.calls: list[Call] = []
        self.connections = 0
        """Number of connections, with or without a call."""
        self.url = ""
        self._flow_control = FlowControl(
            _QUOTAS[quotas], home, self.clock, windows, daily_code
        )
        self._cloud = Cloud(home, self.clock)
        self.collection = self._cloud.collection
        self.reports = Reports(self._cloud)
        self.alarms = Alarms(home, self.clock)
        self._interfaces = Interfaces(
            self._cloud, self.reports, self.alarms, self.account
        )
        self._closing = asyncio.Event()

    def plant_items(self, plant_code: str) -> dict[str, Any]:
        """Return the true items of a plant now."""
        return plant_items(self._cloud.moment(self._cloud.plant(plant_code)))

    def device_items(self, device_id: int) -> dict[str, Any]:
        """Return the true items of a connected device now."""
        plant, device = self._cloud.device(device_id)
        return device_items(self._cloud.moment(plant), device) or {}

    def reported_items(self, name: int | str) -> dict[str, Any] | None:
        """Return the reported items of a device (by ID) or a plant (by code) now."""
        if isinstance(name, str):
            return self._cloud.live_plant(self._cloud.plant(name))
        return self._cloud.live_device(*self._cloud.device(name))

    def flows(self, plant_code: str, at: datetime | None = None) -> truth.Flows:
        """Return a plant's powers at a time, by default now, in W."""
        return truth.flows(self._cloud.plant(plant_code), at or self.clock.now())

    def energy(self, plant_code: str, start: datetime, end: datetime) -> truth.Energies:
        """Return a plant's energies between two times, in kWh."""
        return truth.energies(self._cloud.plant(plant_code), start, end)

    def calls_to(self, interface: str) -> list[Call]:
        """Return the calls to one interface."""
        return [call for call in self.calls if call.interface == interface]

    @property
    def refusals(self) -> list[Call]:
        """Return the calls that exceeded a quota."""
        return [call for call in self.calls if call.refused]

    def use_up(self, interface: str) -> None:
        """Use up the current rest of a quota, like another client."""
        self._flow_control.use_up(interface)

    def limit_day(self, interface: str, calls: int | None) -> None:
        """Refuse calls (20618) beyond a number in a UTC day; None for no limit.

        Earlier calls do not count.
        """
        self._flow_control.limit_day(interface, calls)

    def distort(
        self, name: int | str, key: str, change: Change, *, history: bool = False
    ) -> Distortion:
        """Add a fault to an item of a device (by ID) or a plant (by code)."""
        return self._cloud.distort(name, key, change, history)

    def interrupt(self, device_id: int, outage: Outage) -> None:
        """Disconnect a device at times; `outage` returns the kind of outage, if any."""
        self._cloud.interrupt(device_id, outage)

    def change_password(self, new: str) -> None:
        """Change the password without ending the session."""
        self.account.system_code = new

    def lock(self, minutes: float = 30) -> None:
        """Lock the account and end its session."""
        self.account.lock(timedelta(minutes=minutes))

    def disable(self, code: int | None = 20002) -> None:
        """Disable the account (20002), let it expire (20003), or enable it (None)."""
        self.account.disabled = code
        self.account.end_session()

    def expire_token(self) -> None:
        """End the session."""
        self.account.end_session()

    def take_session(self) -> None:
        """Log in as another client."""
        self.account.start_session()

    def log_in_elsewhere(self) -> bool:
        """Log in as another client, unless the login is refused."""
        if self._flow_control.refusal("login", {}):
            return False
        try:
            self.account.log_in(self.account.user_name, self.account.system_code)
        except LoginRefused:
            return False
        return True

    def withdraw_permission(self, interface: str) -> None:
        """Withdraw the permission for an interface."""
        self.account.withdrawn.add(interface)

    def grant_permission(self, interface: str) -> None:
        """Grant the permission for an interface."""
        self.account.withdrawn.discard(interface)

    def unauthorize(self, plant_code: str) -> None:
        """Withdraw the authorization of a plant."""
        self.account.unauthorized.add(plant_code)

    def authorize(self, plant_code: str) -> None:
        """Restore the authorization of a plant."""
        self.account.unauthorized.discard(plant_code)

    @asynccontextmanager
    async def serve(
        self,
        port: int = 0,
        host: str = _LOOPBACK,
        certificate: ssl.SSLContext | None = None,
    ) -> AsyncIterator[str]:
        """Serve the API at a port, by default any free one; the value is the URL."""
        self._cloud.warm_up()
        runner = web.ServerRunner(
            _Server(self._handle, self, access_log=None), shutdown_timeout=1.0
        )
        await runner.setup()
        self._closing.clear()
        try:
            await web.TCPSite(runner, host, port, ssl_context=certificate).start()
            address = runner.addresses[0]
            scheme = "https" if certificate else "http"
            self.url = f"{scheme}://{address[0]}:{address[1]}"
            yield self.url
        finally:
            self._closing.set()
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        interface = _interface(request.path)
        known = interface in self._interfaces or interface in ("login", "logout")
        if request.method != "POST" or not known:
            return web.Response(
                status=404, body=HTML_PAGE % b"404 Not Found", content_type="text/html"
            )
        try:
            body = orjson.loads(await request.read() or b"{}")
        except orjson.JSONDecodeError:
            body = None
        call = Call(self.clock.now(), interface, body)
        self.calls.append(call)
        fields = body if isinstance(body, dict) else {}
        echo = {"currentTime": int(call.at.timestamp() * 1000)}
        if interface in self._interfaces:
            echo = fields | echo
        exchange = Exchange(interface, fields, echo, request, self._closing)
        # A call with a fault uses the quota like any other call.
        signed_in = interface == "login" or self.account.recognizes(
            request.headers.get("XSRF-TOKEN")
        )
        code = self._flow_control.refusal(interface, fields) if signed_in else 305
        call.refused = signed_in and code is not None
        honest = partial(self._honest, exchange, call, code)
        answer = await self.faults.answer(exchange, honest)
        return self._respond(call, answer)

    async def _honest(self, exchange: Exchange, call: Call, code: int | None) -> Answer:
        """Return the response of a faultless server; `code` refuses the call."""
        echo = exchange.echo
        if code is not None:
            return failure(code, echo)
        if exchange.interface == "login":
            return self._log_in(exchange.body, call)
        if exchange.interface == "logout":
            self.account.end_session()
            return _success(None, echo)
        if exchange.interface in self.account.withdrawn:
            return failure(401, echo)
        if call.body is None:
            return failure(30030, echo)
        try:
            data = await self._interfaces.data(exchange.interface, exchange.body)
        except Refusal as refusal:
            return failure(refusal.code, echo)
        if exchange.interface == "stations":
            return {
                "success": True,
                "data": data,
                "failCode": 0,
                "message": "get plant list success",
            }
        return _success(data, echo)

    def _log_in(self, fields: Payload, call: Call) -> Payload:
        try:
            call.token = self.account.log_in(
                fields.get("userName"), fields.get("systemCode")
            )
        except LoginRefused as refused:
            return {
                "success": False,
                "failCode": refused.fail_code,
                "message": refused.message,
            }
        return _success(None, {}) | {"message": _GREETING}

    def _respond(self, call: Call, answer: Answer) -> web.StreamResponse:
        if isinstance(answer, web.StreamResponse):
            call.status = answer.status
            return answer
        code = str(answer.get("failCode"))
        call.status = 200
        call.fail_code = int(code) if code.isdecimal() else None
        response = web.Response(
            body=orjson.dumps(answer),
            content_type="application/json",
            charset="UTF-8",
            headers=_HEADERS,
        )
        if call.token:
            response.headers["XSRF-TOKEN"] = call.token
            response.set_cookie("XSRF-TOKEN", call.token, path="/", secure=True)
        return response


class _Server(web.Server):
    """HTTP server that counts its connections."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        simulator: Simulator,
        **options: Any,
    ) -> None:
        """Store the simulator."""
        super().__init__(handler, **options)
        self._simulator = simulator

    @override
    def connection_made(
        self, handler: RequestHandler, transport: asyncio.Transport
    ) -> None:
        """Count a connection."""
        super().connection_made(handler, transport)
        self._simulator.connections += 1


def _interface(path: str) -> str:
    """Return the interface at a path; the new ones have a path of their own."""
    for prefix, are_new in (
        ("/thirdData/", False),
        ("/rest/openapi/pvms/nbi/v1/", True),
    ):
        interface = path.removeprefix(prefix)
        if interface != path and ("/" in interface) == are_new:
            return interface
    return ""


def _success(data: Any, echo: Payload) -> Payload:
    return {
        "success": True,
        "data": data,
        "failCode": 0,
        "params": echo,
        "message": None,
    }
