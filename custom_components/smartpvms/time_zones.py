"""Time zones of plants, from tzdata and the rows of `stations`.

A plant has Home Assistant's zone unless its grid connection date has an offset that
this zone did not have in that year or in the last 10 years. The server uses the
standard offset also in summer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from functools import cache, lru_cache
from importlib.resources import files
from itertools import takewhile
import math
import re
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util

from .models import Inventory
from .northbound import Plant
from .options import options_of

# Number of past years whose offsets of Home Assistant's zone are accepted.
_RECENT_YEARS: Final = 10
# Zones of cities up to this multiple of the distance of the nearest city are possible.
_MAX_MULTIPLE: Final = 1.5
# Zones of cities up to this distance in kilometers are always possible, since borders
# of zones can be this far from their cities.
_BORDER_DISTANCE: Final = 1000.0
# Offsets of plants without an offset on the server: UTC and China.
_SERVER_OFFSETS: Final = (timedelta(), timedelta(hours=8))
# In kilometers.
_EARTH_RADIUS: Final = 6371.0

_COORDINATE: Final = re.compile(r"([+-])(\d{2,3}?)(\d\d)(\d\d)?(?=[+-]|$)")


class City(NamedTuple):
    """City of a zone in tzdata."""

    zone: str
    latitude: float
    longitude: float


class TimeZone(NamedTuple):
    """Time zone of a plant."""

    zone: tzinfo | None
    """`None` for Home Assistant's zone."""
    offered: tuple[str, ...] = ()
    """Possible zones, if the zone is in doubt."""


def with_time_zones(
    inventory: Inventory, home: str, chosen: Mapping[str, str], now: datetime
) -> Inventory:
    """Return the inventory with the zones of its plants; reads files.

    `home` is Home Assistant's zone, `chosen` are the user's choices by plant code.
    """
    plants: dict[str, Plant] = {}
    for code, plant in inventory.plants.items():
        found = find(plant, home, now)
        zone, choice = found.zone, chosen.get(code)
        if choice is not None and choice in found.offered:
            zone = None if choice == home else ZoneInfo(choice)
        plants[code] = replace(plant, time_zone=zone)
    return replace(inventory, plants=plants, home_zone=home)


def doubtful(
    plants: Iterable[Plant], home: str, now: datetime
) -> dict[str, tuple[str, ...]]:
    """Return the possible zones of plants whose zone is in doubt, by code.

    Reads files.
    """
    found = {plant.code: find(plant, home, now).offered for plant in plants}
    return {code: offered for code, offered in found.items() if offered}


def find(plant: Plant, home: str, now: datetime) -> TimeZone:
    """Return the zone of a plant; reads files."""
    connected = plant.grid_connection
    if connected is None or (offset := connected.utcoffset()) is None:
        return TimeZone(None)
    years = {connected.year, *range(now.year - _RECENT_YEARS, now.year + 1)}
    if any(offset in _offsets(home, year) for year in years):
        return TimeZone(None)
    if plant.latitude is None or plant.longitude is None:
        zones = [each.zone for each in _cities() if _had(each.zone, connected, now)]
        match _distinct(zones, now):
            case []:
                return TimeZone(None)
            case [zone]:
                return TimeZone(ZoneInfo(zone))
            case _:
                return TimeZone(connected.tzinfo, (home, *zones))
    return _nearest(plant.latitude, plant.longitude, connected, home, now)


def _nearest(
    latitude: float, longitude: float, connected: datetime, home: str, now: datetime
) -> TimeZone:
    """Return the zone of the nearest city whose zone had the offset."""
    distances = sorted(
        (_distance(latitude, longitude, city), city.zone) for city in _cities()
    )
    [(closest, around), *_] = distances
    fitting = (each for each in distances if _had(each[1], connected, now))
    far, zone = next(fitting, (math.inf, None))
    if zone is None:
        return TimeZone(None)
    is_near = far <= closest * _MAX_MULTIPLE
    is_home = _rules(around, now.year) == _rules(home, now.year)
    if is_home and not is_near and connected.utcoffset() in _SERVER_OFFSETS:
        return TimeZone(None, (home, zone))
    reach = max(far * _MAX_MULTIPLE, _BORDER_DISTANCE)
    rivals = [
        zone,
        *(name for _, name in takewhile(lambda it: it[0] <= reach, fitting)),
    ]
    if not is_near:
        rivals.append(around)
    rules = _distinct(rivals, now)
    return TimeZone(ZoneInfo(zone), tuple(rules) if len(rules) > 1 else ())


def _distinct(zones: Iterable[str], now: datetime) -> list[str]:
    """Return one zone of each group of zones with the same offsets all year."""
    first: dict[tuple[timedelta | None, ...], str] = {}
    for zone in zones:
        first.setdefault(_rules(zone, now.year), zone)
    return [*first.values()]


def _had(zone: str, connected: datetime, now: datetime) -> bool:
    """Return whether a zone had the offset, or has it as standard offset."""
    offsets = {
        connected.astimezone(ZoneInfo(zone)).utcoffset(),
        min(_offsets(zone, connected.year)),
        min(_offsets(zone, now.year)),
    }
    return connected.utcoffset() in offsets


@lru_cache(maxsize=4096)
def _offsets(zone: str, year: int) -> frozenset[timedelta]:
    return frozenset(each for each in _rules(zone, year) if each is not None)


@lru_cache(maxsize=4096)
def _rules(zone: str, year: int) -> tuple[timedelta | None, ...]:
    """Return the offset of a zone on each day of a year."""
    info = ZoneInfo(zone)
    begin = datetime(year, 1, 1, 12, tzinfo=info)
    return tuple((begin + timedelta(days=day)).utcoffset() for day in range(365))


@cache
def _cities() -> tuple[City, ...]:
    table = (files("tzdata") / "zoneinfo" / "zone1970.tab").read_text("utf-8")
    rows = [row.split("\t") for row in table.splitlines() if not row.startswith("#")]
    return tuple(City(row[2], *_degrees(row[1])) for row in rows)


def _degrees(coordinates: str) -> tuple[float, float]:
    """Parse latitude and longitude from `±DDMM±DDDMM` or `±DDMMSS±DDDMMSS`."""
    latitude, longitude = (
        float(f"{sign}1")
        * (int(degrees) + int(minutes) / 60 + int(seconds or 0) / 3600)
        for sign, degrees, minutes, seconds in _COORDINATE.findall(coordinates)
    )
    return latitude, longitude


def _distance(latitude: float, longitude: float, city: City) -> float:
    """Return the distance in kilometers between a plant and a city."""
    north, south = math.radians(latitude), math.radians(city.latitude)
    across = math.sin(math.radians(longitude - city.longitude) / 2) ** 2
    along = math.sin((north - south) / 2) ** 2
    share = along + math.cos(north) * math.cos(south) * across
    return 2 * _EARTH_RADIUS * math.asin(math.sqrt(min(share, 1.0)))


async def async_with_time_zones(
    hass: HomeAssistant, entry: ConfigEntry, inventory: Inventory
) -> Inventory:
    """Return the inventory with the zones of its plants."""
    return await hass.async_add_executor_job(
        with_time_zones,
        inventory,
        hass.config.time_zone,
        options_of(entry).time_zones,
        dt_util.utcnow(),
    )
