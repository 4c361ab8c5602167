"""The interfaces of the Northbound API: from the fields of a request to its data."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
import math
from typing import Any

from .account import Account
from .alarms import Alarms
from .cloud import Cloud
from .items import has_history, has_kpis
from .plants import Device, DeviceType, Plant
from .reports import REPORTS, Reports

_PAGE = 100
_PLANTS = 100
_DEVICES = 100
_HISTORY_DEVICES = 10
_HISTORY_SPAN = timedelta(days=3)
_DEVICE_HISTORY_SPAN = timedelta(days=1)
_HISTORY_REACH = timedelta(days=365)
_STEPS_PER_SLICE = 10
_INVERTERS = (DeviceType.STRING_INVERTER, DeviceType.RESIDENTIAL_INVERTER)

type Fields = dict[str, Any]
type Selection = list[tuple[Plant, Device]]


class Refusal(Exception):
    """A request that results in a failCode."""

    def __init__(self, code: int) -> None:
        """Store the failCode."""
        super().__init__(code)
        self.code = code


def _listed(fields: Fields, name: str) -> list[str]:
    return [part for part in str(fields.get(name) or "").split(",") if part]


def _integer(fields: Fields, name: str, missing: int) -> int:
    """Return a field that may be a number or a string; refuse others with a code."""
    try:
        return int(fields[name])
    except KeyError, TypeError, ValueError:
        raise Refusal(missing) from None


class Interfaces:
    """Data interfaces of one account."""

    def __init__(
        self, cloud: Cloud, reports: Reports, alarms: Alarms, account: Account
    ) -> None:
        """Store the account, its cloud, its reports and its alarms."""
        self._alarms = alarms
        self._cloud = cloud
        self._reports = reports
        self._account = account
        self._methods: dict[str, Callable[[Fields], Awaitable[Any]]] = {
            "stations": self._stations,
            "getStationList": self._station_list,
            "getDevList": self._device_list,
            "getStationRealKpi": self._plant_kpis,
            "getDevRealKpi": self._device_kpis,
            "getDevHistoryKpi": self._device_history,
            "device/history": self._history_of_device,
            "getAlarmList": self._alarm_list,
            **{name: partial(self._plant_report, name) for name in REPORTS},
        }

    def __contains__(self, interface: str) -> bool:
        """Return whether an interface exists."""
        return interface in self._methods

    async def data(self, interface: str, fields: Fields) -> Any:
        """Return the data of an interface, or refuse the request."""
        return await self._methods[interface](fields)

    async def _stations(self, fields: Fields) -> Any:
        page = _integer(fields, "pageNo", 30004)
        return self._page([_station(plant) for plant in self._plants], page, _PAGE)

    async def _station_list(self, fields: Fields) -> Any:
        rows = [_old_station(plant) for plant in self._plants]
        if "pageNo" not in fields:
            return rows
        size = _integer(
            fields | {"pageSize": fields.get("pageSize", 100)}, "pageSize", 30005
        )
        return self._page(rows, _integer(fields, "pageNo", 30004), size)

    @property
    def _plants(self) -> list[Plant]:
        return self._cloud.home.plants

    def _page(self, rows: list[Fields], page: int, size: int) -> Fields:
        return {
            "list": rows[max(page - 1, 0) * size : max(page, 0) * size],
            "pageCount": math.ceil(len(rows) / size),
            "pageNo": page,
            "pageSize": size,
            "total": len(rows),
        }

    def _chosen_plants(self, fields: Fields) -> tuple[list[Plant], list[Plant]]:
        """Return the requested plants, and those of them without authorization."""
        codes = _listed(fields, "stationCodes")
        if not codes:
            raise Refusal(20010)
        if len(codes) > _PLANTS:
            raise Refusal(20015)
        plants = [plant for plant in map(self._cloud.home.plant, codes) if plant]
        if not plants:
            raise Refusal(20007)
        closed = [plant for plant in plants if self._is_closed(plant)]
        if len(closed) == len(plants):
            raise Refusal(20056)
        return plants, closed

    def _is_closed(self, plant: Plant) -> bool:
        return plant.code in self._account.unauthorized

    async def _device_list(self, fields: Fields) -> Any:
        plants, closed = self._chosen_plants(fields)
        return [
            _listed_device(plant, device)
            for plant in plants
            if plant not in closed
            for device in plant.devices
        ]

    async def _plant_kpis(self, fields: Fields) -> Any:
        plants, closed = self._chosen_plants(fields)
        rows = []
        for plant in plants:
            row: Fields = {"stationCode": plant.code}
            if plant in closed:
                row |= {"dataItemMap": {}, "failCode": 20056}
            else:
                row["dataItemMap"] = self._cloud.live_plant(plant)
            rows.append(row)
        return rows

    async def _plant_report(self, interface: str, fields: Fields) -> Any:
        epoch = _integer(fields, "collectTime", 20012) / 1000
        plants, closed = self._chosen_plants(fields)
        rows: list[Fields] = []
        for plant in plants:
            if plant in closed:
                code = {"stationCode": plant.code}
                rows.append(code | {"dataItemMap": {}, "failCode": 20056})
            else:
                rows += self._reports.rows(interface, plant, epoch)
            # A month of a hundred plants must not block the event loop.
            await asyncio.sleep(0)
        return rows

    async def _alarm_list(self, fields: Fields) -> Any:
        begin = _integer(fields, "beginTime", 20012) / 1000
        end = _integer(fields, "endTime", 20012) / 1000
        if begin > end:
            raise Refusal(20023)
        if not (language := fields.get("language")):
            raise Refusal(20024)
        if language not in self._alarms.languages:
            raise Refusal(20025)
        numbers = set(_listed(fields, "sns"))
        if _listed(fields, "stationCodes"):
            plants, closed = self._chosen_plants(fields)
        elif not numbers:
            raise Refusal(20055)
        elif len(numbers) > _DEVICES:
            raise Refusal(20017)
        else:
            plants, closed = self._plants, []
        rows: list[Fields] = []
        for plant in plants:
            if plant in closed:
                rows.append({"stationCode": plant.code, "failCode": 20056})
                continue
            rows += self._alarms.rows(
                [plant],
                begin,
                end,
                language,
                _listed(fields, "levels"),
                _listed(fields, "devTypes"),
            )
        if not _listed(fields, "stationCodes"):
            rows = [row for row in rows if row.get("esnCode") in numbers]
        return rows

    def _chosen_devices(self, fields: Fields, most: int, too_many: int) -> Selection:
        type_id = _integer(fields, "devTypeId", 20013)
        ids = _listed(fields, "devIds")
        serial_numbers = _listed(fields, "sns")
        if not ids and not serial_numbers:
            raise Refusal(20011)
        if max(len(ids), len(serial_numbers)) > most:
            raise Refusal(too_many)
        index = {
            name: (plant, device)
            for plant, device in self._cloud.home.devices()
            for name in (str(device.id), device.serial_number)
        }
        found = [index[name] for name in ids or serial_numbers if name in index]
        if not found:
            raise Refusal(20008)
        if any(device.type_id != type_id for _, device in found):
            raise Refusal(20006)
        authorized = [item for item in found if not self._is_closed(item[0])]
        if not authorized:
            raise Refusal(20056)
        return authorized

    async def _device_kpis(self, fields: Fields) -> Any:
        if not has_kpis(_integer(fields, "devTypeId", 20013)):
            raise Refusal(20013)
        rows = []
        for plant, device in self._chosen_devices(fields, _DEVICES, 20017):
            items = self._cloud.live_device(plant, device)
            if items is not None:
                rows.append(_row(device) | {"dataItemMap": items})
        return rows

    async def _device_history(self, fields: Fields) -> Any:
        start, end = self._history_times(fields, _HISTORY_SPAN)
        chosen = self._chosen_devices(fields, _HISTORY_DEVICES, 30031)
        return [
            _row(device) | {"collectTime": epoch * 1000, "dataItemMap": items}
            for device, epoch, items in await self._past(chosen, start, end)
        ]

    async def _history_of_device(self, fields: Fields) -> Any:
        dn = fields.get("devDn")
        if not isinstance(dn, str) or "," in dn:
            raise Refusal(30030)
        start, end = self._history_times(fields, _DEVICE_HISTORY_SPAN)
        ids = {_dn(device): device.id for _, device in self._cloud.home.devices()}
        if dn not in ids:
            raise Refusal(20008)
        chosen = self._chosen_devices(fields | {"devIds": ids[dn]}, 1, 30031)
        return [
            {"devDn": dn, "collectTime": epoch * 1000, "dataItems": items}
            for _, epoch, items in await self._past(chosen, start, end)
        ]

    def _history_times(self, fields: Fields, span: timedelta) -> tuple[float, float]:
        """Return the start and the end of a request for history, or refuse it."""
        if not has_history(_integer(fields, "devTypeId", 20013)):
            raise Refusal(20013)
        start = _integer(fields, "startTime", 20012) / 1000
        end = _integer(fields, "endTime", 20012) / 1000
        if start > end:
            raise Refusal(20023)
        if end - start > span.total_seconds():
            raise Refusal(30032)
        now = self._cloud.clock.now().timestamp()
        if start < now - _HISTORY_REACH.total_seconds():
            raise Refusal(20026)
        return start, end

    async def _past(
        self, chosen: Selection, start: float, end: float
    ) -> list[tuple[Device, int, Fields]]:
        """Return the device, epoch and items of each collection, device by device."""
        last = int(min(end, self._cloud.collected))
        rows: dict[int, list[tuple[Device, int, Fields]]] = {
            device.id: [] for _, device in chosen
        }
        for count, epoch in enumerate(self._cloud.collection.between(start, last)):
            for plant, device in chosen:
                if epoch >= plant.connected_to_grid.timestamp():
                    items = self._cloud.past_device(plant, device, epoch)
                    rows[device.id].append((device, epoch, items))
            if count % _STEPS_PER_SLICE == 0:
                # Three days of ten devices must not block the event loop.
                await asyncio.sleep(0)
        return [row for device_rows in rows.values() for row in device_rows]


def _row(device: Device) -> Fields:
    # Live servers send a word instead of a missing serial number.
    return {"devId": device.id, "sn": device.serial_number or "null"}


def _station(plant: Plant) -> Fields:
    return {
        "plantCode": plant.code,
        "plantName": plant.name,
        "plantAddress": plant.address,
        "longitude": f"{plant.site.place.longitude:.6f}",
        "latitude": f"{plant.site.place.latitude:.6f}",
        "capacity": plant.reported_capacity_kwp,
        "contactPerson": "",
        "contactMethod": "",
        "gridConnectionDate": plant.connected_to_grid.isoformat(),
    }


def _old_station(plant: Plant) -> Fields:
    return {
        "stationCode": plant.code,
        "stationName": plant.name,
        "stationAddr": plant.address,
        "capacity": round(plant.reported_capacity_kwp / 1000, 6),
        "buildState": None,
        "combineType": None,
        "aidType": 1,
        "stationLinkman": "",
        "linkmanPho": "",
    }


def _dn(device: Device) -> str:
    return f"NE={abs(device.id) % 10**9}"


def _listed_device(plant: Plant, device: Device) -> Fields:
    inverter = device.type_id in _INVERTERS
    return {
        "id": device.id,
        "devDn": _dn(device),
        "devName": device.name,
        "stationCode": plant.code,
        "esnCode": device.serial_number,
        "devTypeId": device.type_id,
        "softwareVersion": device.software_version,
        "invType": device.model if inverter else None,
        "model": device.model,
        "longitude": plant.site.place.longitude,
        "latitude": plant.site.place.latitude,
        "optimizerNumber": 0 if inverter else None,
    }
