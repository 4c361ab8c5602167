"""Active alarms of plants: kinds, texts in several languages, and their lives."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from .clock import Clock
from .plants import Device, Home, Plant

# Languages of older servers, and of all.
TEN_LANGUAGES = (
    *("zh_CN", "en_US", "ja_JP", "it_IT", "nl_NL"),
    *("pt_BR", "de_DE", "fr_FR", "es_ES", "pl_PL"),
)
LANGUAGES = (
    *TEN_LANGUAGES,
    *("ro_RO", "cs_CZ", "hu_HU", "vi_VN", "tr_TR", "uk_UA", "zh_TW", "ko_KR"),
)


@dataclass(frozen=True, slots=True)
class Texts:
    """Name, cause and advice of an alarm in a language."""

    name: str
    cause: str
    advice: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of alarm, with its texts by language; other languages get English."""

    alarm_id: int
    cause_id: int
    level: int
    alarm_type: int
    texts: Mapping[str, Texts]

    def text(self, language: str) -> Texts:
        """Return the texts in a language."""
        return self.texts.get(language) or self.texts["en_US"]


FAULT = Kind(
    2064,
    5,
    2,
    2,
    {
        "en_US": Texts(
            "Device abnormal",
            "An unrecoverable fault has occurred in the internal circuit.",
            "1. Turn off the AC and DC switches, and wait for 5 minutes.\n"
            "2. Turn them on again.\n"
            "3. If the alarm persists, contact your installer.",
        ),
        "de_DE": Texts(
            "Gerät gestört",
            "Im internen Stromkreis ist ein nicht behebbarer Fehler aufgetreten.",
            "1. Schalten Sie AC- und DC-Schalter aus und warten Sie 5 Minuten.\n"
            "2. Schalten Sie sie wieder ein.\n"
            "3. Wenn der Alarm bleibt, rufen Sie Ihren Installateur.",
        ),
        "zh_CN": Texts(
            "设备异常",
            "设备内部电路发生不可恢复的故障。",
            "1. 断开交流和直流开关, 等待5分钟。\n2. 重新闭合开关。",
        ),
    },
)
GRID_LOSS = Kind(
    2032,
    1,
    1,
    2,
    {
        "en_US": Texts(
            "Grid loss",
            "The power grid has an outage, or the AC circuit is disconnected.",
            "Check that the AC voltage is normal [CNo].",
        ),
        "de_DE": Texts(
            "Netzausfall",
            "Das Stromnetz ist ausgefallen, oder der AC-Kreis ist getrennt.",
            "Prüfen Sie, ob die AC-Spannung normal ist [CNo].",
        ),
    },
)
UNDERVOLTAGE = Kind(
    3011,
    2,
    4,
    2,
    {
        "en_US": Texts(
            "Battery expansion module undervoltage",
            "The voltage of the module is too low.",
            "Charge the battery.",
        ),
        "de_DE": Texts(
            "Unterspannung des Batteriemoduls",
            "Die Spannung des Moduls ist zu niedrig.",
            "Laden Sie die Batterie.",
        ),
    },
)
STRING_LOSS = Kind(
    2015,
    3,
    3,
    2,
    {"en_US": Texts("PV string loss", "String 3 has no current.", "Check string 3.")},
)
# The ids are placeholders.
DISCONNECTED = Kind(
    999999999,
    -1,
    2,
    0,
    {
        "en_US": Texts(
            "Network Connection Error",
            "The network is unavailable.",
            "Check the router.",
        ),
        "de_DE": Texts(
            "Netzwerkfehler",
            "Das Netzwerk ist nicht verfügbar.",
            "Prüfen Sie den Router.",
        ),
    },
)
KINDS = (FAULT, GRID_LOSS, UNDERVOLTAGE, STRING_LOSS, DISCONNECTED)


@dataclass(eq=False)
class Alarm:
    """An alarm of a device, from its raise to its clearance."""

    plant: Plant
    device: Device
    kind: Kind
    raised: datetime
    cleared: datetime | None = None
    # Fields of the row that differ; those without a value are missing.
    changes: Mapping[str, Any] = field(default_factory=dict)

    def is_active(self, at: datetime) -> bool:
        """Return whether the alarm is active at a time."""
        return self.raised <= at and (self.cleared is None or at < self.cleared)

    def row(self, language: str) -> dict[str, Any]:
        """Return the alarm in an answer."""
        texts = self.kind.text(language)
        row = {
            "stationCode": self.plant.code,
            "stationName": self.plant.name,
            "devName": self.device.name,
            "devTypeId": self.device.type_id,
            "esnCode": self.device.serial_number,
            "alarmId": self.kind.alarm_id,
            "alarmName": texts.name,
            "alarmCause": texts.cause,
            "alarmType": self.kind.alarm_type,
            "causeId": self.kind.cause_id,
            "repairSuggestion": texts.advice,
            "lev": self.kind.level,
            "status": 1,
            "raiseTime": int(self.raised.timestamp() * 1000),
            **self.changes,
        }
        return {key: value for key, value in row.items() if value is not MISSING}


MISSING = object()
"""Value of a field that a row does not have."""

type Plan = Callable[[Plant, date], Iterable[Alarm]]


class Alarms:
    """The alarms of a home's plants."""

    def __init__(self, home: Home, clock: Clock) -> None:
        """Start without alarms."""
        # Time after which the server lists an alarm, or omits it.
        self.lag = timedelta()
        self.languages: Container[str] = LANGUAGES
        self._home = home
        self._clock = clock
        self._begin = clock.now()
        self._alarms: list[Alarm] = []
        self._plans: list[Plan] = []

    def start(
        self,
        device: Device,
        kind: Kind = FAULT,
        at: datetime | None = None,
        **changes: Any,
    ) -> Alarm:
        """Raise an alarm of a device, by default now."""
        [plant] = [plant for plant, each in self._home.devices() if each is device]
        alarm = Alarm(plant, device, kind, at or self._clock.now(), changes=changes)
        self._alarms.append(alarm)
        return alarm

    def clear(self, alarm: Alarm) -> None:
        """Clear an alarm now."""
        alarm.cleared = self._clock.now()

    def play(self, plan: Plan) -> None:
        """Raise and clear alarms as planned for each plant and UTC day from now on."""
        self._plans.append(plan)

    def active(self, plant: Plant, at: datetime) -> Iterator[Alarm]:
        """Return the active alarms of a plant."""
        yield from (
            alarm
            for alarm in self._alarms
            if alarm.plant is plant and alarm.is_active(at)
        )
        # A planned alarm lasts at most two days.
        days = (at.date() - timedelta(days=ago) for ago in (2, 1, 0))
        for day in days:
            if day < self._begin.date():
                continue
            for plan in self._plans:
                yield from (alarm for alarm in plan(plant, day) if alarm.is_active(at))

    def rows(
        self,
        plants: Iterable[Plant],
        begin: float,
        end: float,
        language: str,
        levels: Container[str],
        types: Container[str],
    ) -> list[dict[str, Any]]:
        """Return the active alarms that were raised between two times.

        Without levels or device types, the alarms of all are returned.
        """
        at = self._clock.now() - self.lag
        return [
            alarm.row(language)
            for plant in plants
            for alarm in self.active(plant, at)
            if begin <= alarm.raised.timestamp() <= end
            and (not levels or str(alarm.kind.level) in levels)
            and (not types or str(int(alarm.device.type_id)) in types)
        ]
