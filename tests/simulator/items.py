"""Data items of each device type: documented and newer ones.

Signs and units are those of real servers, which differ from the document in places:
meters report W, power sensors and grid meters count export as positive, EMMA counts
import as positive and reports kW.
"""

from collections.abc import Callable
import math
import re
from typing import Any

from .energy import Battery, Row, State
from .moment import Moment
from .plants import Device, DeviceType

type Items = dict[str, Any]

_GRID_CONNECTED = 512.0
_NO_IRRADIATION = 40960.0
_MODULE_VOLTAGE = 31.0

_TARIFF_REGISTERS = tuple(
    f"{direction}_{kind}_{tariff}"
    for direction in ("reverse", "positive")
    for kind in ("active", "reactive")
    for tariff in ("peak", "power", "valley", "top")
)
_METER_NULLS = (
    "reactive_power_a",
    "reactive_power_b",
    "reactive_power_c",
    *_TARIFF_REGISTERS,
)
# Forward and reverse counts of meters.
_METERED: dict[str, tuple[Row | None, Row]] = {
    "grid": (Row.EXPORT, Row.IMPORT),
    "inverters": (Row.OUTPUT, Row.STANDBY),
    "load": (None, Row.LOAD),
}
_SINGLE_PHASE_BLANKS = (
    "ab_u",
    "bc_u",
    "ca_u",
    "b_u",
    "c_u",
    "b_i",
    "c_i",
    "active_power_a",
    "active_power_b",
    "active_power_c",
)


def plant_items(moment: Moment) -> Items:
    """Return the data items of a plant."""
    plant = moment.plant
    today = moment.today(Row.YIELD)
    total = moment.lifetime(Row.YIELD)
    inverters = [
        device
        for device in plant.devices
        if device.type_id
        in (DeviceType.STRING_INVERTER, DeviceType.RESIDENTIAL_INVERTER)
    ]
    offline = bool(inverters) and not any(device.connected for device in inverters)
    items: Items = {
        "day_power": round(today, 2),
        "month_power": round(moment.this_month(Row.YIELD), 2),
        "total_power": round(total, 2),
        "day_income": round(today * plant.price_per_kwh, 2),
        "total_income": round(total * plant.price_per_kwh, 2),
        "real_health_state": 1 if offline else 3,
    }
    if plant.newer_items:
        items["day_on_grid_energy"] = round(moment.today(Row.EXPORT), 2)
        items["day_use_energy"] = round(moment.today(Row.LOAD), 2)
    return items


def device_items(moment: Moment, device: Device) -> Items | None:
    """Return the data items of a device; None for a type without KPIs."""
    report = _REPORTS.get(device.type_id)
    return report(moment, device) if report else None


def has_kpis(type_id: int) -> bool:
    """Return whether devices of a type have real-time KPIs."""
    return type_id in _REPORTS


def has_history(type_id: int) -> bool:
    """Return whether devices of a type have historical KPIs."""
    return type_id in _REPORTS and type_id not in _WITHOUT_HISTORY


def history_items(moment: Moment, device: Device, live: Items) -> Items:
    """Convert live items into those of a history row."""
    items = {key: value for key, value in live.items() if key != "run_state"}
    for key in _LIVE_ONLY.get(device.type_id, ()):
        items.pop(key, None)
    if device.type_id in _INVERTERS:
        for key in _string_keys(device, moment):
            items[key] = None
    if device.type_id == DeviceType.SSU_GROUP:
        rectified = moment.lifetime(Row.IMPORT) * 0.96
        items["total_output_energy"] = round(rectified, 2)
    elif device.type_id == DeviceType.LITHIUM_RACK:
        warmth = moment.state(State.AIR_TEMPERATURE) * 0.3 + 20.0
        items["average_temperature"] = round(warmth, 1)
    elif device.type_id == DeviceType.AC_OUTPUT:
        items["total_load_active_power"] = live["active_power"]
    return items


def _string_keys(device: Device, moment: Moment) -> list[str]:
    """Return the keys of unconnected PV inputs."""
    used = len(device.mppts) * device.strings_per_mppt
    inputs = _pv_inputs(device, moment)
    return [f"pv{n}_{unit}" for n in range(used + 1, inputs + 1) for unit in "ui"]


def _pv_inputs(device: Device, moment: Moment) -> int:
    if device.type_id == DeviceType.RESIDENTIAL_INVERTER:
        return 8
    return moment.plant.pv_inputs


def _milliseconds(epoch: float) -> float | str:
    return epoch * 1000.0 if epoch else "N/A"


def _current(power_w: float, voltage: float) -> float:
    return round(abs(power_w) / voltage, 3) if voltage else 0.0


def _inverter(moment: Moment, device: Device) -> Items:
    plant = moment.plant
    charging = moment.power(Row.STANDBY) > plant.site.standby_w * plant.size
    running = charging or moment.power(Row.OUTPUT) > 0
    dice = moment.dice(device.id)
    awake = running or plant.site.standby_w > 0
    single = plant.phases == 1
    power = moment.inverter_power * device.share
    dc = moment.pv * device.share
    a, b, c = moment.voltages if awake else (0.0, 0.0, 0.0)
    ab, bc, ca = moment.line_voltages if awake else (0.0, 0.0, 0.0)
    if single:
        b = c = ab = bc = ca = 0.0
    phase_power = power if single else power / 3
    limit = plant.site.ac_limit_w * plant.size * device.share
    load_ratio = max(power, 0.0) / limit
    warmth = moment.state(State.AIR_TEMPERATURE) + 12.0 + 22.0 * load_ratio
    opened, closed = moment.switched
    hybrid = plant.site.battery is not None and plant.site.battery.side == "dc"
    efficiency = 100.0 if hybrid else 100.0 * power / dc if dc > 0 else 0.0
    items: Items = {
        "inverter_state": _GRID_CONNECTED if running else _NO_IRRADIATION,
        "ab_u": ab,
        "bc_u": bc,
        "ca_u": ca,
        "a_u": a,
        "b_u": b,
        "c_u": c,
        "a_i": _current(phase_power, a),
        "b_i": _current(phase_power, b),
        "c_i": _current(phase_power, c),
        "efficiency": round(efficiency, 2) if running else 0.0,
        "temperature": round(warmth, 1) if awake else 0.0,
        "power_factor": 1.0 if running else 0.0,
        "elec_freq": moment.frequency if awake else 0.0,
        "active_power": round(power / 1000, 3),
        "reactive_power": round(power / 1000 * dice.uniform(-0.004, 0.004), 3),
        "day_cap": round(moment.today(Row.OUTPUT) * device.share, 2),
        "mppt_power": round(dc / 1000, 3),
        "total_cap": round(moment.lifetime(Row.OUTPUT) * device.share, 2),
        "open_time": _milliseconds(opened),
        "close_time": "N/A" if running else _milliseconds(closed),
        "run_state": 1,
    }
    trackers = 4 if device.type_id == DeviceType.RESIDENTIAL_INVERTER else 10
    if trackers > 4:
        pv_total = sum(
            moment.lifetime(Row.PV + roof) for roof in range(len(plant.site.roofs))
        )
        items["mppt_total_cap"] = round(pv_total * device.share, 2)
    for number in range(1, trackers + 1):
        items[f"mppt_{number}_cap"] = 0.0
    for number, roof in enumerate(device.mppts, start=1):
        share = device.share / device.mppts.count(roof)
        items[f"mppt_{number}_cap"] = round(moment.lifetime(Row.PV + roof) * share, 2)
    if not device.counts_dc:
        items |= {key: None for key in items if re.fullmatch(r"mppt_\w+_cap", key)}
    items |= _strings(moment, device)
    return items


def _strings(moment: Moment, device: Device) -> Items:
    dice = moment.dice(f"{device.id} strings")
    voltages: Items = {}
    currents: Items = {}
    heat = 1.0 - 0.003 * (moment.state(State.CELL_TEMPERATURE) - 25.0)
    light = min(moment.power(Row.IRRADIATION) / moment.plant.size / 200.0, 1.0)
    nominal = device.modules_per_string * _MODULE_VOLTAGE * heat * (0.88 + 0.12 * light)
    number = 0
    for roof in device.mppts:
        trackers = device.mppts.count(roof) * device.strings_per_mppt
        power = moment.power(Row.PV + roof) * device.share / trackers
        # Strings of one tracker share its voltage.
        voltage = round(nominal * dice.uniform(0.99, 1.01), 1) if power else 0.0
        for _ in range(device.strings_per_mppt):
            number += 1
            voltages[f"pv{number}_u"] = voltage
            currents[f"pv{number}_i"] = _current(power, voltage)
    for key in _string_keys(device, moment):
        (voltages if key.endswith("u") else currents)[key] = 0.0
    return voltages | currents


def _emi(moment: Moment, device: Device) -> Items:
    dice = moment.dice(device.id)
    size = moment.plant.size
    return {
        "temperature": round(moment.state(State.AIR_TEMPERATURE), 1),
        "pv_temperature": round(moment.state(State.CELL_TEMPERATURE), 1),
        "wind_speed": round(moment.state(State.WIND_SPEED), 1),
        "wind_direction": round(dice.uniform(180.0, 300.0), 0),
        "radiant_total": round(moment.today(Row.IRRADIATION) * 3.6 / size, 3),
        "radiant_line": round(moment.power(Row.IRRADIATION) / size, 1),
        "horiz_radiant_line": None,
        "horiz_radiant_total": None,
        "run_state": 1,
    }


def _meter(moment: Moment, device: Device) -> Items:
    """Return the common items of grid meter and power sensor, + for export."""
    in_kw = moment.plant.firmware == "kw"
    exported = _exported_phases(moment, device)
    forward, reverse = _METERED[device.measures]
    a, b, c = moment.voltages
    ab, bc, ca = moment.line_voltages
    scale, digits = (1000.0, 3) if in_kw else (1.0, 0)
    items: Items = dict.fromkeys(_METER_NULLS)
    items |= {
        "ab_u": ab,
        "bc_u": bc,
        "ca_u": ca,
        "b_u": b,
        "c_u": c,
        "b_i": _current(exported[1], b),
        "c_i": _current(exported[2], c),
        "power_factor": round(moment.dice(device.id).uniform(0.97, 1.0), 3),
        "active_cap": _metered(moment, device, forward),
        "reverse_active_cap": _metered(moment, device, reverse),
        "active_power_a": round(exported[0] / scale, digits),
        "active_power_b": round(exported[1] / scale, digits),
        "active_power_c": round(exported[2] / scale, digits),
    }
    return items


def _exported_phases(moment: Moment, device: Device) -> list[float]:
    if device.measures == "grid":
        return [-power * device.share for power in moment.phase_powers]
    forward, reverse = _METERED[device.measures]
    power = moment.power(forward) if forward is not None else 0.0
    power -= moment.power(reverse)
    return [power * device.share / 3] * 3


def _metered(moment: Moment, device: Device, row: Row | None) -> float:
    return 0.0 if row is None else round(moment.lifetime(row) * device.share, 2)


def _reactive(power: float, power_factor: float) -> float:
    apparent = abs(power) / power_factor
    return math.sqrt(max(apparent * apparent - power * power, 0.0))


def _grid_meter(moment: Moment, device: Device) -> Items:
    phases = _exported_phases(moment, device)
    exported = sum(phases)
    in_kw = moment.plant.firmware == "kw"
    items = _meter(moment, device)
    factor = items["power_factor"]
    return items | {
        "a_u": moment.voltages[0],
        "a_i": _current(phases[0], moment.voltages[0]),
        "active_power": round(exported / 1000, 3) if in_kw else round(exported, 0),
        "reactive_power": round(_reactive(exported, factor) / 1000, 3),
        "total_apparent_power": round(abs(exported) / factor / 1000, 3),
        "forward_reactive_cap": round(items["active_cap"] * 0.06, 2),
        "reverse_reactive_cap": round(items["reverse_active_cap"] * 0.06, 2),
        "grid_frequency": None,
    }


def _power_sensor(moment: Moment, device: Device) -> Items:
    phases = _exported_phases(moment, device)
    exported, phase = sum(phases), phases[0]
    items = _meter(moment, device)
    if moment.plant.phases == 1:
        items |= dict.fromkeys(_SINGLE_PHASE_BLANKS, "N/A")
        phase = exported
    return items | {
        "meter_status": 1.0,
        "meter_u": moment.voltages[0],
        "meter_i": _current(phase, moment.voltages[0]),
        "active_power": round(exported, 0),
        "reactive_power": round(_reactive(exported, items["power_factor"]), 0),
        "grid_frequency": moment.frequency,
        "forward_reactive_cap": None,
        "reverse_reactive_cap": None,
        "total_apparent_power": None,
        "run_state": 1,
    }


def _emma(moment: Moment, device: Device) -> Items:
    imported = moment.grid_power * device.share
    a, b, c = moment.voltages
    ab, bc, ca = moment.line_voltages
    phases = [power * device.share for power in moment.phase_powers]
    factor = round(moment.dice(device.id).uniform(0.9, 1.0), 3)
    return {
        "active_power": round(imported / 1000, 3),
        "active_power_a": round(phases[0] / 1000, 3),
        "active_power_b": round(phases[1] / 1000, 3),
        "active_power_c": round(phases[2] / 1000, 3),
        "active_cap": round(moment.lifetime(Row.IMPORT) * device.share, 2),
        "reverse_active_cap": round(moment.lifetime(Row.EXPORT) * device.share, 2),
        "reactive_power": round(_reactive(imported, factor) / 1000, 3),
        "power_factor": math.copysign(factor, imported),
        "a_u": a,
        "b_u": b,
        "c_u": c,
        "ab_u": ab,
        "bc_u": bc,
        "ca_u": ca,
        "a_i": _current(phases[0], a),
        "b_i": _current(phases[1], b),
        "c_i": _current(phases[2], c),
        "ex_active_power": 0.0,
        "ex_active_cap": 0.0,
        "ex_reverse_active_cap": 0.0,
        "run_state": 1,
    }


def _storage(moment: Moment) -> Battery:
    battery = moment.plant.site.battery
    if battery is None:
        raise ValueError(f"{moment.plant.name} has a storage device but no battery")
    return battery


def _battery(moment: Moment, device: Device) -> Items:
    storage = _storage(moment)
    share = device.share
    power = moment.battery_power * share
    limit = storage.power_w * moment.plant.size * share
    soc = moment.state(State.SOC)
    items: Items = {
        "battery_status": 2.0 if power else 1.0,
        "max_charge_power": round(limit if soc < 99.9 else 0.0, 0),
        "max_discharge_power": round(limit if soc > 5.1 else 0.0, 0),
        "ch_discharge_power": round(power, 0),
        "busbar_u": round(360.0 + soc * 0.4 + power / limit * 8.0, 1),
        "battery_soc": round(soc, 1),
        "battery_soh": 0.0,
        "ch_discharge_model": 4.0,
        "charge_cap": round(moment.today(Row.CHARGE) * share, 2),
        "discharge_cap": round(moment.today(Row.DISCHARGE) * share, 2),
        "run_state": 1,
    }
    if moment.plant.newer_items:
        capacity = storage.capacity_wh * moment.plant.size * share
        items |= {
            "total_charged_energy": round(moment.lifetime(Row.CHARGE) * share, 2),
            "total_discharged_energy": round(moment.lifetime(Row.DISCHARGE) * share, 2),
            "rated_capacity": round(capacity / 1000, 2),
            "battery_unit_info": {
                "unit1": [{"sn": f"BT{device.id % 10**10:010}", "soh": "95.0%"}]
            },
        }
    return items


def _ess(moment: Moment, device: Device) -> Items:
    sign = 1.0 if moment.plant.ess_positive == "charge" else -1.0
    share = device.share
    return {
        "ch_discharge_power": round(sign * moment.battery_power * share, 0),
        "battery_soc": round(moment.state(State.SOC), 1),
        "battery_soh": 97.0,
        "charge_cap": round(moment.today(Row.CHARGE) * share, 2),
        "discharge_cap": round(moment.today(Row.DISCHARGE) * share, 2),
        "run_state": 1,
    }


def _mains_power(moment: Moment) -> float:
    return moment.power(Row.IMPORT) - moment.power(Row.GENSET)


def _mains(moment: Moment, device: Device) -> Items:
    available = moment.power(Row.GENSET) == 0
    power = _mains_power(moment)
    voltage = moment.voltages[0] if available else 0.0
    energy = moment.lifetime(Row.IMPORT) - moment.lifetime(Row.GENSET)
    return {
        "mains_state": 1.0 if available else 0.0,
        "ac_voltage": voltage,
        "ac_current": _current(power, voltage),
        "active_power": round(power / 1000, 3),
        "ac_frequency": moment.frequency if available else 0.0,
        "grid_quality_grade": 1.0,
        "total_energy_consumption": round(energy, 2),
        "supply_duration_per_total": _hours_in_service(moment),
    }


def _hours_in_service(moment: Moment) -> float:
    return round((moment.epoch - moment.plant.site.begin) / 3600, 1)


def _genset(moment: Moment, device: Device) -> Items:
    power = moment.power(Row.GENSET)
    rated = moment.plant.site.ac_limit_w * moment.plant.size
    return {
        "running_state": 2.0 if power else 1.0,
        "output_power": round(power / 1000, 3),
        "load_rate": round(100.0 * power / rated, 1),
    }


def _rectified(moment: Moment) -> float:
    return moment.power(Row.IMPORT) * 0.96


def _ssu_group(moment: Moment, device: Device) -> Items:
    power = _rectified(moment)
    return {
        "total_output_current": _current(power, 53.5),
        "total_output_power": round(power / 1000, 3),
    }


def _ssu(moment: Moment, device: Device) -> Items:
    power = _rectified(moment) * device.share
    return {
        "input_voltage": moment.voltages[0],
        "output_voltage": 53.5,
        "output_current": _current(power, 53.5),
        "on_off_state": 0.0,
    }


def _power_converter(moment: Moment, device: Device) -> Items:
    output = moment.power(Row.OUTPUT) * device.share
    voltage = moment.voltages[0]
    pv = moment.pv * device.share
    pv_voltage = round(moment.dice(device.id).uniform(355.0, 365.0), 1) if pv else 0.0
    return {
        "pv_input_voltage": pv_voltage,
        "pv_input_current": _current(pv, pv_voltage),
        "pv_input_power": round(pv / 1000, 3),
        "total_runtime": _hours_in_service(moment),
        "inverter_voltage": voltage,
        "inverter_frequency": moment.frequency,
        "ac_output_voltage": voltage,
        "ac_output_current": _current(output, voltage),
        "ac_output_frequency": moment.frequency,
        "ac_output_apparent_power": round(output / 1000, 3),
    }


def _lithium_rack(moment: Moment, device: Device) -> Items:
    storage = _storage(moment)
    capacity = storage.capacity_wh * moment.plant.size * device.share
    power = moment.battery_power * device.share
    soc = moment.state(State.SOC)
    voltage = round(48.0 + soc * 0.055, 2)
    discharged = moment.lifetime(Row.DISCHARGE) * device.share
    load = moment.power(Row.LOAD) * device.share
    return {
        "battery_state": 5.0 if power > 0 else 4.0 if power < 0 else 8.0,
        "soc": round(soc, 1),
        "charge_discharge_power": round(power / 1000, 3),
        "total_discharge": round(discharged, 2),
        "voltage": voltage,
        "current": math.copysign(_current(power, voltage), power),
        "remaining_backup_time": round(soc / 100 * capacity / load, 1),
        "total_discharge_times": float(discharged * 1000 // capacity),
        "total_capacity": round(capacity / 1000, 2),
    }


def _ac_output(moment: Moment, device: Device) -> Items:
    power = moment.power(Row.LOAD) * device.share
    voltage = moment.voltages[0]
    return {
        "ac_voltage": voltage,
        "ac_current": _current(power, voltage),
        "ac_frequency": moment.frequency,
        "active_power": round(power / 1000, 3),
    }


_REPORTS: dict[int, Callable[[Moment, Device], Items]] = {
    DeviceType.STRING_INVERTER: _inverter,
    DeviceType.RESIDENTIAL_INVERTER: _inverter,
    DeviceType.EMI: _emi,
    DeviceType.GRID_METER: _grid_meter,
    DeviceType.POWER_SENSOR: _power_sensor,
    DeviceType.BATTERY: _battery,
    DeviceType.ESS: _ess,
    DeviceType.EMMA: _emma,
    DeviceType.MAINS: _mains,
    DeviceType.GENSET: _genset,
    DeviceType.SSU_GROUP: _ssu_group,
    DeviceType.SSU: _ssu,
    DeviceType.POWER_CONVERTER: _power_converter,
    DeviceType.LITHIUM_RACK: _lithium_rack,
    DeviceType.AC_OUTPUT: _ac_output,
}
_INVERTERS = (DeviceType.STRING_INVERTER, DeviceType.RESIDENTIAL_INVERTER)
_WITHOUT_HISTORY = (DeviceType.SSU, DeviceType.POWER_CONVERTER)
_LIVE_ONLY: dict[int, tuple[str, ...]] = {
    DeviceType.ESS: ("battery_soh",),
    DeviceType.MAINS: (
        "grid_quality_grade",
        "total_energy_consumption",
        "supply_duration_per_total",
    ),
    DeviceType.GENSET: ("output_power",),
    DeviceType.SSU_GROUP: ("total_output_power",),
    DeviceType.LITHIUM_RACK: (
        "battery_state",
        "charge_discharge_power",
        "total_discharge",
        "current",
        "remaining_backup_time",
        "total_discharge_times",
        "total_capacity",
    ),
    DeviceType.AC_OUTPUT: ("ac_voltage", "ac_current", "active_power"),
}
