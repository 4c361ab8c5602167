"""Sun and weather: the irradiation of the panels, by minute."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Not imported on demand: pandas, a dependency, never finishes its import in time
# frozen by freezegun.
# import once freezegun has stopped the time.
from pvlib import atmosphere, clearsky, irradiance, solarposition

type Array = npt.NDArray[np.float64]

MINUTES = 1440
# The sun moves slowly: one point every five minutes, interpolated linearly.
_SUN_STEP = 5
_CLOUD_STEP = 10
_LINKE_TURBIDITY = 3.2
_ALBEDO = 0.2
_TEMPERATURE_COEFFICIENT = -0.0035
_SYSTEM_EFFICIENCY = 0.92


@dataclass(frozen=True, slots=True)
class Place:
    """The location of a plant."""

    latitude: float
    longitude: float
    altitude: float = 50.0


@dataclass(frozen=True, slots=True)
class Roof:
    """Panels of one orientation."""

    kwp: float
    tilt: float = 35.0
    azimuth: float = 180.0


@dataclass(frozen=True, slots=True)
class Sky:
    """Light and air over a number of days; every array is [day, minute]."""

    irradiance: tuple[Array, ...]
    cell_temperature: tuple[Array, ...]
    air_temperature: Array
    wind_speed: Array


def _clear_sky(place: Place, epoch: Array) -> tuple[Array, Array, Array, Array]:
    """Return zenith and azimuth in degrees, and clear-sky GHI and DNI."""
    moments = epoch.astype("datetime64[s]")
    day_of_year = (
        (moments.astype("datetime64[D]") - moments.astype("datetime64[Y]")).astype(
            np.float64
        )
    ) + 1.0
    declination = solarposition.declination_spencer71(day_of_year)
    hours = (epoch % 86400) / 3600
    hour_angle = np.radians(
        (hours - 12) * 15
        + place.longitude
        + solarposition.equation_of_time_spencer71(day_of_year) / 4
    )
    latitude = np.radians(place.latitude)
    zenith = solarposition.solar_zenith_analytical(latitude, hour_angle, declination)
    azimuth = solarposition.solar_azimuth_analytical(
        latitude, hour_angle, declination, zenith
    )
    zenith, azimuth = np.degrees(zenith), np.degrees(azimuth)
    above = np.minimum(zenith, 89.9)
    air_mass = atmosphere.get_absolute_airmass(atmosphere.get_relative_airmass(above))
    sky = clearsky.ineichen(
        above,
        air_mass,
        _LINKE_TURBIDITY,
        place.altitude,
        irradiance.get_extra_radiation(day_of_year),
    )
    below = zenith > above
    ghi = np.where(below, 0.0, sky["ghi"])
    dni = np.where(below, 0.0, sky["dni"])
    return zenith, azimuth, ghi, dni


def _smooth(knots: Array, step: int) -> Array:
    """Interpolate linearly between knots that are `step` minutes apart."""
    first, change = knots[:, :-1], np.diff(knots, axis=1) / step
    lines = np.empty((*first.shape, step))
    for minute in range(step):
        lines[:, :, minute] = first + change * minute
    return lines.reshape(knots.shape[0], -1)


def _clouds(seed: tuple[int, ...]) -> Array:
    """Return a day's clearness at the cloud knots; 1 is a clear sky."""
    random = np.random.default_rng(seed)
    mean = random.choice((1.0, 0.85, 0.6, 0.35, 0.2), p=(0.14, 0.18, 0.26, 0.26, 0.16))
    spread = (1.0 - abs(2 * mean - 1.0)) * 0.3
    count = MINUTES // _CLOUD_STEP + 1
    drift = random.normal(0.0, 1.0, count)
    drift = 0.6 * drift + 0.4 * np.roll(drift, 1)
    clearness: Array = np.clip(mean + spread * drift, 0.08, 1.0)
    return clearness


def _air(seed: tuple[int, ...], days: list[int]) -> tuple[Array, Array]:
    """Return the deviation of temperature and wind from the season, by day."""
    knots = np.array(
        [
            np.random.default_rng((*seed, 1, day)).normal(0.0, 1.0, 2)
            for day in (*days, days[-1] + 1)
        ]
    )
    share = np.arange(MINUTES) / MINUTES
    warmth, storm = (
        knot[:-1, None] * (1 - share) + knot[1:, None] * share for knot in knots.T
    )
    return warmth, storm


def sky_over(
    place: Place, roofs: tuple[Roof, ...], starts: Array, seed: tuple[int, ...]
) -> Sky:
    """Return the light on each roof for the days that start at `starts` (epoch)."""
    offsets = np.arange(0, MINUTES + 1, _SUN_STEP) * 60.0
    epoch = starts[:, None] + offsets
    zenith, azimuth, clear_ghi, clear_dni = _clear_sky(place, epoch)
    days = [int(start // 86400) for start in starts]
    clearness = _smooth(np.array([_clouds((*seed, day)) for day in days]), _CLOUD_STEP)
    warmth, storm = _air(seed, days)
    beam_share = np.clip((clearness - 0.25) / 0.75, 0.0, 1.0)
    ghi = _smooth(clear_ghi, _SUN_STEP) * clearness
    dni = _smooth(clear_dni, _SUN_STEP) * beam_share
    cosine = np.maximum(_smooth(np.cos(np.radians(zenith)), _SUN_STEP), 0.0)
    dhi = np.maximum(ghi - dni * cosine, 0.0)

    minute = np.arange(MINUTES)
    day_of_year = (starts / 86400 % 365.25)[:, None]
    hour = ((starts[:, None] + minute * 60) / 3600 + place.longitude / 15) % 24
    season = -np.cos((day_of_year - 20) / 365.25 * 2 * np.pi)
    season = season if place.latitude >= 0 else -season
    air = (
        26.0
        - abs(place.latitude) * 0.3
        + season * abs(place.latitude) * 0.19
        + 4.0 * np.sin((hour - 9) / 24 * 2 * np.pi)
        + 3.0 * warmth
    )
    wind = np.clip(2.5 + storm + np.sin(hour / 12 * np.pi), 0.2, None)

    lights = []
    cells = []
    for roof in roofs:
        projection = irradiance.aoi_projection(roof.tilt, roof.azimuth, zenith, azimuth)
        beam = dni * np.maximum(_smooth(projection, _SUN_STEP), 0.0)
        tilt = np.cos(np.radians(roof.tilt))
        total = beam + dhi * (1 + tilt) / 2 + ghi * _ALBEDO * (1 - tilt) / 2
        lights.append(total)
        cells.append(air + total / (25.0 + 6.84 * wind))
    return Sky(tuple(lights), tuple(cells), air, wind)


def panel_power(roof: Roof, light: Array, cell_temperature: Array) -> Array:
    """Return the DC power at the maximum power point, W."""
    derating = 1.0 + _TEMPERATURE_COEFFICIENT * (cell_temperature - 25.0)
    power: Array = roof.kwp * light * derating * _SYSTEM_EFFICIENCY
    # Below a few watts per square meter, no inverter starts.
    return np.where(light < 6.0, 0.0, power)
