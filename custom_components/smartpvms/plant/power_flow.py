"""Power flow of a plant, calculated from the readings of its devices.

The API has no power of the home: it follows from the inverters, the batteries and the
meter at the grid. All powers are on the AC side, so that PV + grid + battery = home
always holds:

- An inverter's AC output is the sum of the panels and the battery behind it. While the
  battery charges, PV is the output plus the charging power. While it discharges, PV and
  battery share the output, and the conversion losses, in proportion. PV and discharge
  are therefore some percent below their DC measurements, and no value has the wrong
  sign. The panels' DC energy has separate counters.
- The few watts that an inverter draws while it sleeps are part of the home's power.
- A value that follows from a device without a fresh value is unknown, and so is one
  that depends on an unknown grid meter or sign.
"""

from dataclasses import dataclass
from typing import Final

from custom_components.smartpvms.northbound import DeviceType

from .devices import (
    INVERTERS,
    NOISE,
    OPAQUE,
    TELECOM,
    PlantDevices,
    of_type,
    total,
    watts,
)
from .storage_sign import StorageSigns

# Differences below this share of the largest power are noise.
NOISE_SHARE: Final = 0.02


@dataclass(frozen=True, slots=True)
class PowerFlow:
    """Powers of a plant in W; `None` if unknown or not available."""

    pv: float | None = None
    grid: float | None = None
    """Positive for import."""
    battery: float | None = None
    """Positive for discharge."""
    home: float | None = None

    @property
    def self_consumption(self) -> float | None:
        """Return the share of the PV power that is not exported, in percent."""
        if self.pv is None or self.grid is None or self.pv <= 0:
            return None
        return _percent(1 - max(-self.grid, 0.0) / self.pv)

    @property
    def self_sufficiency(self) -> float | None:
        """Return the share of the home's power that is not imported, in percent."""
        if self.home is None or self.grid is None or self.home <= 0:
            return None
        return _percent(1 - max(self.grid, 0.0) / self.home)


def power_flow(
    devices: PlantDevices, signs: StorageSigns, point: int | None
) -> PowerFlow:
    """Return a plant's powers; `point` is the device at its grid connection."""
    grid = None if point is None else devices[point].imported
    if of_type(devices, *OPAQUE):
        return PowerFlow(grid=grid)
    pv, battery, supply = _behind_inverters(devices)
    stored = signs.discharge(devices)
    racks = of_type(devices, DeviceType.BATTERY_RACK)
    parts = [battery] if of_type(devices, DeviceType.BATTERY) else []
    parts += [stored] if of_type(devices, DeviceType.ESS) else []
    parts += [device.rack_discharge for device in racks.values()]
    converters = of_type(devices, DeviceType.POWER_CONVERTER)
    if converters:
        powers = [
            watts(device.read("pv_input_power")) for device in converters.values()
        ]
        pv = total([*([pv] if of_type(devices, *INVERTERS) else []), *powers])
    home = None
    # A telecom site has loads on both sides of its rectifiers.
    if grid is not None and supply is not None and not of_type(devices, *TELECOM):
        home = None if stored is None else supply + stored + grid
    if home is not None and home < 0:
        contradictory = home < -_noise(supply or 0.0, stored or 0.0, grid or 0.0)
        inverters = of_type(devices, *INVERTERS).values()
        if contradictory and any(device.is_silent for device in inverters):
            # The export comes from an inverter that only seems to be asleep.
            pv = None
        home = None if contradictory else 0.0
    return PowerFlow(
        _rounded(pv),
        _rounded(grid),
        _rounded(total(parts)) if parts else None,
        _rounded(home),
    )


def _behind_inverters(
    devices: PlantDevices,
) -> tuple[float | None, float | None, float | None]:
    """Return the powers of PV, of batteries on the DC side, and of both, as AC."""
    inverters = of_type(devices, *INVERTERS).values()
    if not inverters:
        return None, None, None
    output = total(device.output for device in inverters)
    silent = any(device.is_silent for device in inverters)
    batteries = of_type(devices, DeviceType.BATTERY).values()
    if not batteries:
        if output is None or (silent and output > NOISE):
            # By day, a silent inverter has lost its connection.
            return None, None, None
        pv = max(output, 0.0)
        return pv, None, pv
    charge = total(device.read("ch_discharge_power") for device in batteries)
    battery = None if charge is None else 0.0 - charge
    if silent and output is not None:
        if output > NOISE or abs(battery or 0.0) > NOISE:
            output = None
        elif battery is None:
            return max(output, 0.0), None, None
    if output is None:
        return None, battery, None
    panels = total(device.panels for device in inverters)
    if battery is None:
        return 0.0 if panels == 0 else None, None, output
    pv, battery = _shares(output, panels, battery)
    return pv, battery, pv + battery


def _shares(output: float, panels: float | None, battery: float) -> tuple[float, float]:
    """Split an AC output into PV and battery by their DC powers."""
    if output <= 0 <= battery:
        return 0.0, 0.0
    if battery > 0 and panels is not None:
        pv = output * max(panels, 0.0) / (max(panels, 0.0) + battery)
    else:
        pv = max(output - battery, 0.0)
        if panels is not None:
            # Readings of different times may sum up to more than the DC power.
            pv = min(pv, max(panels, 0.0))
    return pv, output - pv


def _noise(*powers: float) -> float:
    return max(NOISE, NOISE_SHARE * max(map(abs, powers)))


def _percent(share: float) -> float:
    return round(100 * min(max(share, 0.0), 1.0), 1)


def _rounded(power: float | None) -> float | None:
    # Adding 0 turns -0.0 into 0.0.
    return None if power is None else round(power, 3) + 0
