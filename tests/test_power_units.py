"""Tests of W or kW: both firmware generations show the same power."""

from typing import Any, Final

from hypothesis import given, strategies as st
import pytest

from custom_components.smartpvms.northbound import DeviceType
from custom_components.smartpvms.power_units import MeterPowers
from tests.simulator import Simulator, homes
from tests.simulator.plants import Home

from .conftest import Account

pytestmark = pytest.mark.fast

# Voltage, current and active power of three phases, as reported by meters.
READINGS: Final = [
    ((231.4, 7.31, 1677.0), (229.8, 5.6, -1261.0), (230.6, 9.48, 2175.0)),
    ((230.1, 0.52, 61.0), (229.9, 0.48, -12.0), (230.0, 0.61, 118.0)),
    ((233.0, 20.1, -4650.0), (232.7, 20.3, -4702.0), (233.1, 19.9, -4611.0)),
]


def _items(
    type_id: int, phases: tuple[tuple[float, ...], ...], unit: float
) -> dict[str, Any]:
    first = {DeviceType.GRID_METER: "a", DeviceType.POWER_SENSOR: "meter"}[
        DeviceType(type_id)
    ]
    items: dict[str, Any] = {}
    for name, phase, (volts, amperes, watts) in zip(
        (first, "b", "c"), "abc", phases, strict=True
    ):
        items |= {
            f"{name}_u": volts,
            f"{name}_i": amperes,
            f"active_power_{phase}": watts / unit,
        }
    total = sum(watts for _, _, watts in phases)
    sure = type_id == DeviceType.POWER_SENSOR
    return items | {"active_power": total / (1 if sure else unit)}


@pytest.mark.parametrize("type_id", [DeviceType.GRID_METER, DeviceType.POWER_SENSOR])
@pytest.mark.parametrize("phases", READINGS)
@pytest.mark.parametrize("unit", [1, 1000])
def test_both_generations(
    type_id: int, phases: tuple[tuple[float, ...], ...], unit: float
) -> None:
    """T#47, T#252: the first reading determines the unit."""
    shown = MeterPowers(type_id).in_watts(_items(type_id, phases, unit))
    assert [shown[f"active_power_{phase}"] for phase in "abc"] == [
        pytest.approx(watts) for _, _, watts in phases
    ]
    assert shown["active_power"] == pytest.approx(sum(phase[2] for phase in phases))


@pytest.mark.parametrize("unit", [1, 1000])
def test_no_flapping_around_zero(unit: float) -> None:
    """While the power passes through 0, the unit is kept."""
    meter = MeterPowers(DeviceType.GRID_METER)
    meter.in_watts(_items(DeviceType.GRID_METER, READINGS[2], unit))
    for watts in (40.0, 9.0, 1.0, 0.0, -1.0, -8.0, -35.0):
        phases = ((230.0, 4.4, watts), (230.0, 4.4, 0.0), (230.0, 4.4, -watts))
        shown = meter.in_watts(_items(DeviceType.GRID_METER, phases, unit))
        assert shown["active_power_a"] == pytest.approx(watts)


@pytest.mark.parametrize("power", [0.0, 3.0, -3.0])
def test_without_voltages_the_unit_is_watts(power: float) -> None:
    """A meter without voltages reports W."""
    meter = MeterPowers(DeviceType.GRID_METER)
    assert meter.in_watts({"active_power": power})["active_power"] == power


@pytest.mark.parametrize("unit", [1, 1000])
@pytest.mark.parametrize("false", [-65_230_000.0, 4_294_967_295.0])
def test_implausible_power(unit: float, false: float) -> None:
    """An implausible power does not determine the unit."""
    meter = MeterPowers(DeviceType.GRID_METER)
    items = _items(DeviceType.GRID_METER, READINGS[0], unit)
    before = meter.in_watts(items)
    meter.in_watts({**items, "active_power": false, "active_power_a": false})
    assert meter.in_watts(items) == before


def test_single_phase_meter() -> None:
    """Missing phases stay missing."""
    items: dict[str, Any] = {"meter_u": 230.0, "meter_i": 8.0, "active_power_a": 1.79}
    items |= {"active_power_b": "N/A", "active_power": 1790.0}
    shown = MeterPowers(DeviceType.POWER_SENSOR).in_watts(items)
    assert shown == items | {"active_power_a": 1790.0}


@given(
    st.floats(200, 250),
    st.floats(1, 60),
    st.floats(-1, 1),
    st.sampled_from([1.0, 1000.0]),
)
def test_unit_of_any_power(
    volts: float, amperes: float, factor: float, unit: float
) -> None:
    """For any power factor above a quarter, one reading determines the unit."""
    watts = volts * amperes * (0.25 + 0.75 * abs(factor)) * (1 if factor > 0 else -1)
    phases = ((volts, amperes, watts),) * 3
    shown = MeterPowers(DeviceType.GRID_METER).in_watts(
        _items(DeviceType.GRID_METER, phases, unit)
    )
    assert shown["active_power"] == pytest.approx(3 * watts, abs=0.01)


@pytest.fixture
def home() -> Home:
    """Return a farm, which has a grid meter."""
    return homes.farm()


@pytest.mark.parametrize("firmware", ["w", "kw"])
async def test_state_of_a_grid_meter(
    account: Account, simulator: Simulator, firmware: Any
) -> None:
    """The state of a large plant is in kW for any unit of the server."""
    plant = simulator.home.plants[0]
    meter = next(device for device in plant.devices if device.type_id == 17)
    plant.firmware = "w"
    watts = simulator.device_items(meter.id)["active_power"]
    plant.firmware = firmware
    await account.add()
    state = account.state(meter.id, "active_power")
    assert state
    assert state.attributes["unit_of_measurement"] == "kW"
    assert float(state.state) == pytest.approx(watts / 1000)
