"""Client of the SmartPVMS Northbound API.

There is one method per interface, and one for the four interfaces of plant reports.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import wraps
from operator import attrgetter
from traceback import clear_frames
from typing import Any, Final

from .errors import (
    MEMBER_REFUSALS,
    MalformedResponse,
    MembersRefused,
    NorthboundError,
    PermissionDenied,
)
from .models import (
    Alarm,
    AlarmKey,
    Alarms,
    DataItems,
    Device,
    HistoryRow,
    Plant,
    PlantReport,
    PlantReports,
    RealTimeKpis,
    ReportPeriod,
    data_items,
    integer,
    moment,
    parse_alarm,
    parse_device,
    parse_plant,
    parse_station,
    report_values,
    text,
)
from .service import Service
from .session import Answer, Session

BATCH: Final = 100
"""Maximum number of plants, or of devices of one type, per call."""

HISTORY_BATCH: Final = 10
"""Maximum number of devices of one type per call of `getDevHistoryKpi`."""

HISTORY_SPAN: Final = timedelta(days=3)
"""Maximum time span per call of `getDevHistoryKpi`."""

DEVICE_HISTORY_SPAN: Final = timedelta(days=1)
"""Maximum time span per call of `device/history`."""

HISTORY_REACH: Final = timedelta(days=365)
"""Maximum age of history on the server."""

# Maximum wait in seconds for further pages; some servers allow one call per minute.
_MAX_WAIT: Final = 125.0


def _without_answer[**P, T](
    method: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Remove the answer from the error that a method raises.

    A coordinator keeps the error, whose traceback refers to the local variables.
    """

    @wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except NorthboundError as err:
            error: BaseException | None = err
            while error is not None:
                clear_frames(error.__traceback__)
                error = error.__context__
            raise

    return call


class NorthboundClient:
    """Reads the plants and devices of one account and their KPIs.

    The methods raise only the errors of `Session.call`.
    """

    def __init__(self, session: Session) -> None:
        """Set the session of the account."""
        self._session = session

    @property
    def service(self) -> Service:
        """Return the record of answers and failures."""
        return self._session.state.service

    @_without_answer
    async def plants(self) -> list[Plant]:
        """Return the plants of the account, capacity in kWp (`stations`).

        If the server refuses `stations`, which can happen for accounts created before
        2022, calls `getStationList` and converts its capacity from MW to kWp. If the
        server refuses both, raises the error of `stations`.
        """
        try:
            return await self._pages("stations", parse_plant)
        except (PermissionDenied, MembersRefused) as refused:
            try:
                return await self._pages("getStationList", parse_station)
            except PermissionDenied, MembersRefused:
                raise refused from None

    @_without_answer
    async def devices(
        self, plant_codes: Iterable[str], *, is_first: bool = True
    ) -> list[Device]:
        """Return the devices of at most 100 plants, with loggers (`getDevList`).

        A plant without devices, or without a list (`null`), has none. All calls of a
        refresh but the first wait for flow control.
        """
        answer = await self._session.call(
            "getDevList",
            {"stationCodes": ",".join(plant_codes)},
            max_wait=0 if is_first else _MAX_WAIT,
        )
        return [
            device
            for row in _rows(answer.data)
            if (device := parse_device(row)) is not None
        ]

    @_without_answer
    async def plant_real_time(self, plant_codes: Iterable[str]) -> RealTimeKpis[str]:
        """Return the KPIs of at most 100 plants (`getStationRealKpi`).

        Energies are in kWh, revenues in the currency of the plant. A plant that the
        server omits has no row.
        """
        answer = await self._session.call(
            "getStationRealKpi", {"stationCodes": ",".join(plant_codes)}
        )
        return read_kpis(answer, "stationCode", text)

    @_without_answer
    async def device_real_time(
        self, type_id: int, device_ids: Iterable[int]
    ) -> RealTimeKpis[int]:
        """Return the KPIs of at most 100 devices of one type (`getDevRealKpi`).

        Units are as documented for the type. A device that the server omits has no
        row.
        """
        answer = await self._session.call(
            "getDevRealKpi",
            {"devIds": ",".join(map(str, device_ids)), "devTypeId": int(type_id)},
        )
        return read_kpis(answer, "devId", integer)

    @_without_answer
    async def device_history(
        self, type_id: int, device_ids: Iterable[int], start: datetime, end: datetime
    ) -> dict[int, list[HistoryRow]]:
        """Return the history rows of devices of one type (`getDevHistoryKpi`).

        Allows at most 10 devices and 3 days, including both ends, of the last 365 days.
        Units are as documented for the type. The rows of a device are sorted by time,
        without duplicate times. A device that the server omits has no rows.
        """
        answer = await self._session.call(
            "getDevHistoryKpi",
            {
                "devIds": ",".join(map(str, device_ids)),
                "devTypeId": int(type_id),
                "startTime": int(start.timestamp() * 1000),
                "endTime": int(end.timestamp() * 1000),
            },
        )
        # The server sends an empty list if there are no rows.
        if answer.data is None:
            raise MalformedResponse("list of rows missing")
        # In a thread, since thousands of rows would block the event loop.
        return await asyncio.to_thread(read_history, answer)

    @_without_answer
    async def history_of_device(
        self, device: Device, start: datetime, end: datetime
    ) -> list[HistoryRow]:
        """Return the history rows of a device with a `dn` (`device/history`).

        Newer servers have this interface in place of `getDevHistoryKpi`. Allows 24
        hours, including both ends, of the last 365 days. The rows are sorted by time,
        without duplicate times.
        """
        answer = await self._session.call(
            "device/history",
            {
                "devDn": device.dn,
                "devTypeId": device.type_id,
                "startTime": int(start.timestamp() * 1000),
                "endTime": int(end.timestamp() * 1000),
            },
        )
        # The server sends an empty list if there are no rows.
        if answer.data is None:
            raise MalformedResponse("list of rows missing")
        return read_history_of_device(answer)

    @_without_answer
    async def plant_reports(
        self, period: ReportPeriod, plant_codes: Iterable[str], at: datetime
    ) -> PlantReports:
        """Return the reports of at most 100 plants of one time zone for a period.

        Calls `getKpiStationHour` for the hours of a day, `getKpiStationDay` for the
        days of a month, `getKpiStationMonth` for the months of a year, or
        `getKpiStationYear` for all years. `at` is a time of this day, month or year, in
        the time zone of the plants. `ReportItem` has the units. A plant that the server
        omits has no rows, and a row without values, or of another time, is omitted.
        """
        answer = await self._session.call(
            period.value,
            {
                "stationCodes": ",".join(plant_codes),
                "collectTime": int(at.timestamp() * 1000),
            },
        )
        # The server sends an empty list if there are no rows.
        if answer.data is None:
            raise MalformedResponse("list of rows missing")
        # In a thread, since thousands of rows would block the event loop.
        return await asyncio.to_thread(read_reports, answer, *_span(period, at))

    @_without_answer
    async def alarms(
        self,
        plant_codes: Collection[str],
        start: datetime,
        end: datetime,
        language: str,
    ) -> Alarms:
        """Return the active alarms of at most 100 plants (`getAlarmList`).

        The alarms were raised between two times. `ALARM_LANGUAGES` has the languages of
        their texts; servers before 26.2 reject some of them.
        """
        answer = await self._session.call(
            "getAlarmList",
            {
                "stationCodes": ",".join(plant_codes),
                "beginTime": int(start.timestamp() * 1000),
                "endTime": int(end.timestamp() * 1000),
                "language": language,
            },
        )
        # The server sends an empty list if there are no alarms.
        if answer.data is None:
            raise MalformedResponse("list of alarms missing")
        # In a thread, since hundreds of long texts would block the event loop.
        return await asyncio.to_thread(read_alarms, answer, plant_codes)

    def list_wait(self, reserve: int) -> float:
        """Return the seconds until flow control allows `1 + reserve` lists."""
        flow_control = self._session.state.flow_control
        return max(
            flow_control.wait(interface, reserve=reserve)
            for interface in ("stations", "getStationList", "getDevList")
        )

    def report_wait(self, period: ReportPeriod) -> float:
        """Return the seconds until a call of `plant_reports` is allowed."""
        return self._session.wait(period.value)

    def reports_a_day(self, period: ReportPeriod) -> int | None:
        """Return the number of calls of `plant_reports` that are allowed in a day.

        It is `None` without flow control.
        """
        return self._session.calls_a_day(period.value)

    def alarm_wait(self) -> float:
        """Return the seconds until a call of `alarms` is allowed."""
        return self._session.wait("getAlarmList")

    def history_wait(self, reserve: int = 0) -> float:
        """Return the seconds until `getDevHistoryKpi` allows `1 + reserve` calls."""
        return self._session.wait("getDevHistoryKpi", reserve=reserve)

    def device_history_wait(self) -> float:
        """Return the seconds until a call of `history_of_device` is allowed."""
        return self._session.wait("device/history")

    def real_time_wait(self, type_id: int | None, calls: int = 1) -> float:
        """Return the seconds until `calls` batches of a device type can be read.

        The type `None` means plants.
        """
        interface = "getStationRealKpi" if type_id is None else "getDevRealKpi"
        return self._session.wait(interface, type_id, calls - 1)

    def set_account_size(self, plants: int, devices: Mapping[int, int]) -> None:
        """Set the number of plants, and of devices by type, for the quotas."""
        self._session.state.flow_control.set_account_size(plants, devices)

    @_without_answer
    async def log_in(self) -> None:
        """Open a new session of the account (`login`) at the user's request."""
        await self._session.log_in()

    @_without_answer
    async def logout(self) -> None:
        """Close the account's session (`logout`)."""
        await self._session.logout()

    async def _pages(
        self, interface: str, parse: Callable[[Mapping[str, object]], Plant | None]
    ) -> list[Plant]:
        plants: dict[str, Plant] = {}
        page = pages = 1
        while page <= pages:
            answer = await self._session.call(
                interface,
                {"pageNo": page, "pageSize": BATCH},
                max_wait=_MAX_WAIT if page > 1 else 0,
            )
            known = len(plants)
            # Older servers return the bare list from getStationList.
            data = answer.data
            if isinstance(data, dict):
                pages = integer(data.get("pageCount")) or 1
                data = data.get("list")
            for row in _rows(data):
                if (plant := parse(row)) is not None:
                    plants[plant.code] = plant
            if len(plants) == known:
                break
            page += 1
        return list(plants.values())


def _rows(data: object) -> list[Mapping[str, object]]:
    """Return the rows of an answer; `null` means no rows."""
    if data is None:
        return []
    if not isinstance(data, list):
        raise MalformedResponse("data is not a list")
    return [row for row in data if isinstance(row, dict)]


def _refusal(row: Mapping[str, object]) -> int | None:
    """Return the failCode of a row whose plant or device may not be read."""
    code = integer(row.get("failCode"))
    return code if code in MEMBER_REFUSALS else None


def _span(period: ReportPeriod, at: datetime) -> tuple[datetime, datetime]:
    """Return the start and the end of a report in the zone of `at`, as UTC."""
    start = at.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    match period:
        case ReportPeriod.HOUR:
            end = start + timedelta(days=1)
        case ReportPeriod.DAY:
            start = start.replace(day=1)
            end = (start + timedelta(days=31)).replace(day=1)
        case _:
            start = start.replace(month=1, day=1)
            end = start.replace(year=start.year + 1)
    if period is ReportPeriod.YEAR:
        return datetime.min.replace(tzinfo=UTC), end.astimezone(UTC)
    return start.astimezone(UTC), end.astimezone(UTC)


def read_kpis[IdT: (str, int)](
    answer: Answer, key: str, identify: Callable[[object], IdT | None]
) -> RealTimeKpis[IdT]:
    """Return the rows of an answer that have a plant code or device id."""
    rows: dict[IdT, DataItems] = {}
    refused: dict[IdT, int] = {}
    for row in _rows(answer.data):
        row_id = identify(row.get(key))
        if row_id is None:
            continue
        if (code := _refusal(row)) is not None:
            refused[row_id] = code
        elif (items := data_items(row.get("dataItemMap"))) is not None:
            rows[row_id] = items
    return RealTimeKpis(answer.server_time, rows, refused)


def read_history(answer: Answer) -> dict[int, list[HistoryRow]]:
    """Return the rows of an answer that have a device id and a time, sorted by time."""
    devices: dict[int, dict[datetime, HistoryRow]] = {}
    for row in _rows(answer.data):
        device_id = integer(row.get("devId"))
        at = moment(row.get("collectTime"))
        items = row.get("dataItemMap")
        if device_id is not None and at is not None and isinstance(items, dict):
            devices.setdefault(device_id, {})[at] = HistoryRow(at, items)
    return {
        device_id: sorted(rows.values(), key=attrgetter("at"))
        for device_id, rows in devices.items()
    }


def read_history_of_device(answer: Answer) -> list[HistoryRow]:
    """Return the rows of an answer about one device that have a time, sorted by it."""
    rows: dict[datetime, HistoryRow] = {}
    for row in _rows(answer.data):
        at = moment(row.get("collectTime"))
        items = row.get("dataItems")
        if at is not None and isinstance(items, dict):
            rows[at] = HistoryRow(at, items)
    return [rows[at] for at in sorted(rows)]


def read_reports(answer: Answer, start: datetime, end: datetime) -> PlantReports:
    """Return the rows of an answer between two times that have values."""
    plants: dict[str, dict[datetime, PlantReport]] = {}
    refused: dict[str, int] = {}
    for row in _rows(answer.data):
        plant_code = text(row.get("stationCode"))
        if plant_code is None:
            continue
        if (code := _refusal(row)) is not None:
            refused[plant_code] = code
            continue
        at = moment(row.get("collectTime"))
        items = row.get("dataItemMap")
        if at is None or not start <= at < end or not isinstance(items, dict):
            continue
        if values := report_values(items):
            plants.setdefault(plant_code, {})[at] = PlantReport(at, values)
    rows = {
        plant_code: sorted(reports.values(), key=attrgetter("start"))
        for plant_code, reports in plants.items()
    }
    return PlantReports(answer.server_time, rows, refused)


def read_alarms(answer: Answer, plant_codes: Iterable[str]) -> Alarms:
    """Return the alarms of an answer by plant, and which plants have all of them."""
    plants: dict[str, dict[AlarmKey, Alarm]] = {code: {} for code in plant_codes}
    only_plant = next(iter(plants)) if len(plants) == 1 else None
    rows = _rows(answer.data)
    complete, has_other = {*plants}, False
    if not isinstance(answer.data, list) or len(rows) < len(answer.data):
        complete.clear()
    for row in rows:
        plant_code = text(row.get("stationCode")) or only_plant
        if plant_code is None:
            complete.clear()
            continue
        if (alarms := plants.get(plant_code)) is None:
            has_other = True
            continue
        alarm = None if _refusal(row) else parse_alarm(row)
        if alarm is None:
            complete.discard(plant_code)
        else:
            alarms[alarm.key] = alarm
    if has_other:
        # The rows may be of a plant whose code has changed.
        complete = {code for code in complete if plants[code]}
    return Alarms(
        answer.server_time,
        {code: [*alarms.values()] for code, alarms in plants.items()},
        frozenset(complete),
    )
