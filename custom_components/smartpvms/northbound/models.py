"""Plants, devices and KPI rows of the Northbound API."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import IntEnum, StrEnum
from functools import lru_cache
from html import unescape
from itertools import accumulate
import re
from typing import ClassVar, Final

type DataItems = Mapping[str, object]

_NUMBER = re.compile(
    r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?\s*", re.ASCII | re.IGNORECASE
)
_INTEGER = re.compile(r"\s*[+-]?\d{1,20}\s*", re.ASCII)
# JSON that Home Assistant stores has no larger integers.
_INTEGERS: Final = range(-(2**63), 2**64)
# Larger numbers are no measurements: they are infinite in a smaller unit, and a sum
# with one loses all others.
_MAX_NUMBER: Final = 1e15
# Documented keys are words of ASCII characters; texts of data items are short, too.
_MAX_LENGTH: Final = 64
# Fallback names. Codes and ids are not used, since names are visible to all users.
_PLANT = "Plant"
_DEVICE = "Device"
_ALARM = "Alarm"
_NO_TEXT = frozenset({"", "null", "none", "n/a", "--"})
# Servers send extreme dates in place of missing ones.
_YEARS = range(2000, 2100)
# Maximum bytes of the name of a plant and of the texts of an alarm in JSON, together less
# than 4 kB.
_PLANT_SIZE: Final = 300
_DEVICE_SIZE: Final = 160
_NAME_SIZE: Final = 240
_CAUSE_SIZE: Final = 800
_ADVICE_SIZE: Final = 2000
# Characters of a text that are read at all.
_MAX_TEXT: Final = 20_000
# A text can also have comparison signs, and placeholders between them.
_TAG_NAMES: Final = (
    "a|b|big|blockquote|body|br|center|dd|div|dl|dt|em|font|h[1-6]|head|hr|html|i|img|li"
    "|link|meta|ol|p|pre|s|script|small|span|strike|strong|style|su[bp]|table|tbody|td"
    "|tfoot|th|thead|tr|tt|u|ul"
)
_TAG_END: Final = r"""(?:\s+[\w:-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))*\s*/?>"""
_LINE_END: Final = re.compile(
    rf"<(?:br|/(?:p|div|li|tr|h[1-6])){_TAG_END}", re.IGNORECASE
)
_TAG: Final = re.compile(
    rf"</?(?:{_TAG_NAMES}){_TAG_END}|<!--[^<>]*-->|<!doctype\b[^<>]*>", re.IGNORECASE
)
# UTC offsets of time zones are multiples of 15 minutes.
_QUARTER = timedelta(minutes=15)
_MAX_OFFSET = timedelta(hours=14)


class DeviceType(IntEnum):
    """Device types (devTypeId) that `getDevRealKpi` supports."""

    STRING_INVERTER = 1
    EMI = 10
    GRID_METER = 17
    RESIDENTIAL_INVERTER = 38
    BATTERY = 39
    ESS = 41
    POWER_SENSOR = 47
    EMMA = 23070
    MAINS = 60001
    GENSET = 60003
    AC_OUTPUT = 60010
    BATTERY_RACK = 60014
    SSU_GROUP = 60043
    SSU = 60044
    POWER_CONVERTER = 60092


HISTORY_TYPES: Final = frozenset(DeviceType) - {
    DeviceType.SSU,
    DeviceType.POWER_CONVERTER,
}
"""Device types that `getDevHistoryKpi` supports."""

DEVICE_TYPE_NAMES: Final[Mapping[int, str]] = {
    DeviceType.STRING_INVERTER: "String inverter",
    2: "SmartLogger",
    8: "STS",
    DeviceType.EMI: "Environmental monitoring instrument",
    13: "Protocol converter",
    16: "General device",
    DeviceType.GRID_METER: "Grid meter",
    22: "PID",
    37: "Pinnet data logger",
    DeviceType.RESIDENTIAL_INVERTER: "Residential inverter",
    DeviceType.BATTERY: "Residential battery",
    40: "Backup box",
    DeviceType.ESS: "C&I and utility ESS",
    45: "PLC",
    46: "Optimizer",
    DeviceType.POWER_SENSOR: "Power sensor",
    62: "Dongle",
    63: "Distributed SmartLogger",
    70: "Safety box",
    DeviceType.EMMA: "EMMA",
    23071: "SmartGuard",
    23076: "Meter",
    23093: "PV-ESS all-in-one",
    DeviceType.MAINS: "Mains",
    DeviceType.GENSET: "Genset",
    DeviceType.AC_OUTPUT: "AC output power distribution",
    DeviceType.BATTERY_RACK: "Lithium battery rack",
    DeviceType.SSU_GROUP: "SSU group",
    DeviceType.SSU: "SSU",
    DeviceType.POWER_CONVERTER: "Power converter",
}
"""Names of device types in the API document."""


type DeviceId = int
"""The devIds value: a 64-bit integer, negative on old systems."""


@dataclass(frozen=True, slots=True)
class Plant:
    """A plant of the account (`stations`)."""

    is_record: ClassVar = True

    code: str
    """plantCode, the stationCode of all other interfaces."""
    name: str
    capacity: float | None
    """Installed capacity in kWp."""
    grid_connection: datetime | None
    """Time of the grid connection, with the plant's UTC offset on that day."""
    address: str | None = None
    latitude: float | None = field(default=None, repr=False)
    longitude: float | None = field(default=None, repr=False)
    time_zone: tzinfo | None = field(default=None, metadata={"stored": False})
    """Time zone of the plant; `None` means Home Assistant's. Not part of the API."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device of a plant (`getDevList`)."""

    is_record: ClassVar = True

    id: DeviceId
    type_id: int
    """devTypeId."""
    name: str
    plant_code: str
    serial_number: str | None
    model: str | None
    software_version: str | None
    dn: str | None = None
    """devDn, by which `device/history` identifies the device; older servers lack it."""


@dataclass(frozen=True, slots=True)
class RealTimeKpis[IdT: (str, int)]:
    """Rows of a real-time answer, by plant code or device id."""

    server_time: datetime | None
    """The server's clock (`params.currentTime`)."""
    rows: Mapping[IdT, DataItems]
    """The items of the dataItemMap of each row; `number` parses their values."""
    refused: Mapping[IdT, int] = field(default_factory=dict)
    """The failCodes of plants or devices that may not be read."""


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """Data items of a device at one collection."""

    at: datetime
    """Time of the collection; the server collects every five minutes."""
    items: DataItems
    """The items, as sent; `number` parses their values."""


class ReportPeriod(StrEnum):
    """Periods of the rows of plant reports, as names of their interfaces."""

    HOUR = "getKpiStationHour"
    """The hours of a day."""
    DAY = "getKpiStationDay"
    """The days of a month."""
    MONTH = "getKpiStationMonth"
    """The months of a year."""
    YEAR = "getKpiStationYear"
    """The years since the plant was built."""


class ReportItem(StrEnum):
    """Values of plant reports, as named by their data items on newer servers.

    Reports of hours have only some of them, and those of older servers fewer.
    """

    PRODUCTION = "PVYield"
    """Energy of the panels, before the battery, in kWh."""
    INVERTER_YIELD = "inverterYield"
    """Production less the charge, plus the discharge, in kWh; may be negative."""
    CONSUMPTION = "use_power"
    """Energy used by the home, in kWh."""
    EXPORT = "ongrid_power"
    """Energy fed into the grid, in kWh."""
    IMPORT = "buyPower"
    """Energy taken from the grid, in kWh."""
    CHARGE = "chargeCap"
    """Energy charged into batteries, in kWh."""
    DISCHARGE = "dischargeCap"
    """Energy discharged from batteries, in kWh."""
    SELF_USE = "selfUsePower"
    """Production less the export, in kWh; may be negative."""
    SELF_SUPPLY = "selfProvide"
    """Inverter yield less the export, in kWh; may be negative."""
    INSTALLED_CAPACITY = "installed_capacity"
    """Installed capacity in kWp."""
    PERFORMANCE_RATIO = "performance_ratio"
    """Performance ratio in %, which the document gives in kWh."""
    SPECIFIC_ENERGY = "perpower_ratio"
    """Production by installed capacity in kWh/kWp, which the document gives in h."""
    IRRADIATION = "radiation_intensity"
    """Irradiation in kWh/m²."""
    THEORETICAL_ENERGY = "theory_power"
    """Energy of the irradiation at the installed capacity, in kWh."""
    CO2_REDUCTION = "reduction_total_co2"
    """Avoided CO2 in t."""
    COAL_REDUCTION = "reduction_total_coal"
    """Avoided coal in t."""
    TREES = "reduction_total_tree"
    """Number of trees with the effect of the avoided CO2."""
    PROFIT = "power_profit"
    """Revenue less the cost of the import, in the plant's currency."""
    SPECIFIC_PROFIT = "perpower_profit"
    """Profit by installed capacity, in the plant's currency per kWp."""


@dataclass(frozen=True, slots=True)
class PlantReport:
    """A row of a plant report."""

    start: datetime
    """Start of the hour, day, month or year in the plant's zone, as UTC."""
    values: Mapping[ReportItem, float]
    """At least one value; others are unknown, not 0."""


@dataclass(frozen=True, slots=True)
class PlantReports:
    """Reports of plants for one period, by plant code."""

    server_time: datetime | None
    """The server's clock (`params.currentTime`)."""
    rows: Mapping[str, list[PlantReport]]
    """The rows of each plant, sorted by time, without duplicate times."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """The failCodes of plants that may not be read."""


class AlarmLevel(StrEnum):
    """Levels of alarms, the most severe first."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"
    WARNING = "warning"
    OTHER = "other"
    """A level that is not documented."""


_LEVELS: Final = dict(enumerate(AlarmLevel, 1))

ENGLISH: Final = "en_US"
ALARM_LANGUAGES: Final[Mapping[str, str]] = {
    "cs": "cs_CZ",
    "de": "de_DE",
    "en": ENGLISH,
    "es": "es_ES",
    "fr": "fr_FR",
    "hu": "hu_HU",
    "it": "it_IT",
    "ja": "ja_JP",
    "ko": "ko_KR",
    "nl": "nl_NL",
    "pl": "pl_PL",
    # There is no European Portuguese.
    "pt": "pt_BR",
    "ro": "ro_RO",
    "tr": "tr_TR",
    "uk": "uk_UA",
    "vi": "vi_VN",
    "zh": "zh_CN",
    "zh-Hant": "zh_TW",
}
"""Languages of `getAlarmList` by IETF language tag."""

type AlarmKey = tuple[str | None, int | str | None, int | str | None, datetime | None]
"""Device, alarm id, cause id and time of an alarm, which together occur once a plant."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """An active alarm of a plant (`getAlarmList`).

    Texts are in the language of the request, without HTML.
    """

    is_record: ClassVar = True

    alarm_id: int | str | None
    """Kind of the alarm; some servers send 999999999."""
    cause_id: int | str | None
    """Kind of the cause; some servers send -1."""
    level: AlarmLevel
    name: str
    device: str | None
    """Name of the device."""
    serial_number: str | None
    raised: datetime | None
    cause: str | None = field(default=None, metadata={"stored": False})
    advice: str | None = field(default=None, metadata={"stored": False})

    @property
    def key(self) -> AlarmKey:
        """Return the identity of the alarm in its plant."""
        device = self.serial_number or self.device
        return device, self.alarm_id, self.cause_id, self.raised

    def is_of(self, device: Device) -> bool:
        """Return whether the alarm is one of a device of the plant."""
        if self.serial_number and device.serial_number:
            return self.serial_number == device.serial_number
        return self.device is not None and self.device == _device_name(device.name)


@dataclass(frozen=True, slots=True)
class Alarms:
    """Active alarms of plants, by plant code."""

    server_time: datetime | None
    """The server's clock (`params.currentTime`)."""
    rows: Mapping[str, list[Alarm]]
    """The alarms of each plant of the request, without duplicates."""
    complete: frozenset[str] = frozenset()
    """Plants whose alarms could all be read."""


def number(raw: object) -> float | None:
    """Return a raw data item as a number below 1e15; `None` means unknown.

    Accepts JSON numbers and numeric strings. `null`, `"N/A"`, `"--"`, booleans and
    other values are unknown.
    """
    match raw:
        # First, since almost all values are floats.
        case float():
            value = raw
        case bool():
            return None
        case str() if _NUMBER.fullmatch(raw):
            value = float(raw)
        case int() if raw in _INTEGERS:
            value = float(raw)
        case _:
            return None
    # Replaces -0.0 by 0.0.
    return (value or 0.0) if abs(value) < _MAX_NUMBER else None


def integer(raw: object) -> int | None:
    """Return a raw id or count as an integer; `None` means unknown or inexact."""
    match raw:
        case bool():
            return None
        case int():
            value = raw
        case str() if _INTEGER.fullmatch(raw):
            value = int(raw)
        case float() if raw.is_integer() and abs(raw) < 2**53:
            value = int(raw)
        case _:
            return None
    return value if value in _INTEGERS else None


def text(raw: object) -> str | None:
    """Return a raw text without outer spaces, `None` if empty or a placeholder."""
    if isinstance(raw, int | float):
        return None if number(raw) is None else str(raw)
    if not isinstance(raw, str) or raw.strip().lower() in _NO_TEXT:
        return None
    return raw.strip() if _is_valid(raw) else None


def _is_valid(raw: str) -> bool:
    """Return whether a text has no half of a character (a lone surrogate)."""
    try:
        raw.encode()
    except UnicodeEncodeError:
        return False
    return True


def data_items(raw: object) -> DataItems | None:
    """Return the data items of a dataItemMap that can be stored, `None` without a map.

    A text that cannot be stored is unknown. Lists and objects are kept.
    """
    if not isinstance(raw, dict):
        return None
    # Checked together first, since almost all maps have only valid keys.
    longest = max(map(len, raw), default=0)
    if longest > _MAX_LENGTH or not all(raw) or not _is_word("".join(raw)):
        raw = {
            key: value
            for key, value in raw.items()
            if key and len(key) <= _MAX_LENGTH and _is_word(key)
        }
    unknown = [
        key
        for key, value in raw.items()
        if type(value) is str and not _is_storable(value)
    ]
    return raw | dict.fromkeys(unknown) if unknown else raw


def _is_word(raw: str) -> bool:
    """Return whether a text has only the letters, digits and `_` of ASCII."""
    return raw.isascii() and f"_{raw}".isidentifier()


def _is_storable(raw: str) -> bool:
    return len(raw) <= _MAX_LENGTH and _is_valid(raw)


def moment(raw: object) -> datetime | None:
    """Return epoch milliseconds as UTC time, `None` outside the years 2000 to 2099."""
    milliseconds = number(raw)
    if milliseconds is None:
        return None
    try:
        at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except ValueError:
        return None
    return at if at.year in _YEARS else None


def report_values(items: Mapping[str, object]) -> dict[ReportItem, float]:
    """Return the known values of a dataItemMap of a plant report.

    Older servers report the production as `inverter_power`, which can mean another
    energy on newer ones. Rows without `use_power` can contain its two parts.
    """
    values = {
        item: value
        for item in ReportItem
        if (value := number(items.get(item))) is not None
    }
    if (yielded := number(items.get("inverter_power"))) is not None:
        values.setdefault(ReportItem.PRODUCTION, yielded)
    imported = values.get(ReportItem.IMPORT)
    supplied = values.get(ReportItem.SELF_SUPPLY)
    if imported is not None and supplied is not None:
        # Without the errors of sums of decimal fractions, such as 0.1 + 0.2.
        values.setdefault(ReportItem.CONSUMPTION, round(imported + supplied, 6))
    return values


def parse_plant(row: Mapping[str, object]) -> Plant | None:
    """Return the plant in a row of `stations`, `None` without a code."""
    code = text(row.get("plantCode"))
    if code is None:
        return None
    latitude, longitude = _place(row.get("latitude"), row.get("longitude"))
    return Plant(
        code=code,
        name=_line(row.get("plantName"), _PLANT_SIZE) or _PLANT,
        capacity=number(row.get("capacity")),
        grid_connection=_iso(row.get("gridConnectionDate")),
        address=text(row.get("plantAddress")),
        latitude=latitude,
        longitude=longitude,
    )


def parse_station(row: Mapping[str, object]) -> Plant | None:
    """Return the plant in a row of `getStationList`, with capacity in MW as kWp."""
    code = text(row.get("stationCode"))
    if code is None:
        return None
    megawatts = number(row.get("capacity"))
    return Plant(
        code=code,
        name=_line(row.get("stationName"), _PLANT_SIZE) or _PLANT,
        capacity=None if megawatts is None else megawatts * 1000,
        grid_connection=None,
        address=text(row.get("stationAddr")),
    )


def parse_device(row: Mapping[str, object]) -> Device | None:
    """Return the device in a row of `getDevList`, `None` without id, type or plant."""
    device_id = integer(row.get("id"))
    type_id = integer(row.get("devTypeId"))
    plant_code = text(row.get("stationCode"))
    if device_id is None or type_id is None or plant_code is None:
        return None
    return Device(
        id=device_id,
        type_id=type_id,
        name=text(row.get("devName")) or DEVICE_TYPE_NAMES.get(type_id, _DEVICE),
        plant_code=plant_code,
        serial_number=text(row.get("esnCode")),
        model=text(row.get("model")) or text(row.get("invType")),
        software_version=text(row.get("softwareVersion")),
        dn=text(row.get("devDn")),
    )


def parse_alarm(row: Mapping[str, object]) -> Alarm | None:
    """Return the alarm in a row of `getAlarmList`, `None` if it has no data of one."""
    alarm_id = _kind(row.get("alarmId"))
    name = _line(_plain(row.get("alarmName"), _NAME_SIZE), _NAME_SIZE)
    raised = moment(row.get("raiseTime"))
    if alarm_id is None and name is None and raised is None:
        return None
    return Alarm(
        alarm_id=alarm_id,
        cause_id=_kind(row.get("causeId")),
        level=_LEVELS.get(integer(row.get("lev")) or 0, AlarmLevel.OTHER),
        name=name or _ALARM,
        device=_line(row.get("devName"), _DEVICE_SIZE),
        serial_number=_line(row.get("esnCode"), _MAX_LENGTH),
        raised=raised,
        cause=_plain(row.get("alarmCause"), _CAUSE_SIZE),
        advice=_plain(row.get("repairSuggestion"), _ADVICE_SIZE),
    )


@lru_cache(maxsize=1024)
def _device_name(name: str) -> str | None:
    """Return the name of a device in the form of an alarm's."""
    return _line(name, _DEVICE_SIZE)


def alarm_language(tag: str) -> str:
    """Return the language of `getAlarmList` for an IETF language tag, or English."""
    language = tag.partition("-")[0]
    return ALARM_LANGUAGES.get(tag) or ALARM_LANGUAGES.get(language, ENGLISH)


def _kind(raw: object) -> int | str | None:
    """Return the id of a kind of alarms or causes, which is usually an integer."""
    value = integer(raw)
    return _line(raw, _MAX_LENGTH) if value is None else value


def _line(raw: object, size: int) -> str | None:
    """Return a text in one line, with at most `size` bytes in JSON."""
    if isinstance(raw, str):
        raw = _shortened(" ".join(_printable(raw[:_MAX_TEXT]).split()), size)
    return text(raw)


def _plain(raw: object, size: int) -> str | None:
    """Return a text of several lines without HTML, with at most `size` bytes in JSON."""
    if isinstance(raw, str):
        raw = unescape(_TAG.sub("", _LINE_END.sub("\n", raw[:_MAX_TEXT])))
        lines = (" ".join(_printable(line).split()) for line in raw.splitlines())
        raw = _shortened("\n".join(filter(None, lines)), size)
    return text(raw)


def _printable(raw: str) -> str:
    """Return a text without control characters and halves of characters."""
    return "".join(each if each.isprintable() else " " for each in raw)


def _shortened(raw: str, size: int) -> str:
    """Return the begin of a text that has at most `size` bytes in JSON."""
    sizes = [*accumulate(len(each.encode()) + (each in '"\\\n') for each in raw)]
    if not sizes or sizes[-1] <= size:
        return raw
    ellipsis = "…"
    fitting = sum(each <= size - len(ellipsis.encode()) for each in sizes)
    return raw[:fitting].rstrip() + ellipsis


def _iso(raw: object) -> datetime | None:
    if not isinstance(raw, str):
        return None
    try:
        parsed = datetime.fromisoformat(raw.strip())
    except ValueError:
        return None
    offset = parsed.utcoffset()
    if offset is None or offset % _QUARTER or abs(offset) > _MAX_OFFSET:
        return None
    return parsed if parsed.year in _YEARS else None


def _place(latitude: object, longitude: object) -> tuple[float | None, float | None]:
    """Return valid coordinates; two zeros mean that there are none."""
    north, east = number(latitude), number(longitude)
    if north is None or east is None or abs(north) > 90 or abs(east) > 180:
        return None, None
    return (north, east) if north or east else (None, None)
