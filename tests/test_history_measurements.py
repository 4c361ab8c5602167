"""Tests of imported measurements: the same as recorded by the recorder."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
import math
from typing import Any, Final, Literal

from freezegun.api import FrozenDateTimeFactory
import pytest

from homeassistant.components.recorder import Recorder, get_instance
from homeassistant.components.recorder.models import StatisticMeanType
from homeassistant.components.recorder.statistics import (
    StatisticsRow,
    get_metadata,
    statistics_during_period,
)
from homeassistant.components.sensor import ATTR_STATE_CLASS
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from tests.simulator import Simulator, faults, homes
from tests.simulator.counters import COLLECTION
from tests.simulator.items import device_items, history_items
from tests.simulator.moment import Moment
from tests.simulator.plants import Device, DeviceType, Home, Plant

from . import history, statistics
from .conftest import POLL, Account
from .history import HOUR, full_hour
from .statistics import Run

quiet = statistics.recorder_config
simulator = history.simulator
start = history.start

INVERTER: Final = 1000000035436842
# Powers of the inverter that the API reports in kW or kvar.
IN_KILO: Final = {"active_power", "mppt_power", "reactive_power"}
BATTERY: Final = 1000000035436843
METER: Final = 1000000035436844

# Largest error of rounding.
TOLERANCE: Final = 0.002


@pytest.fixture
def recorder_config(quiet: dict[str, int]) -> dict[str, int]:
    """Commit after every state: an in-memory database serves one thread at a time."""
    return {**quiet, "commit_interval": 0}


class Days:
    """The day before an account is added, and its statistics."""

    def __init__(self, hass: HomeAssistant, run: Run) -> None:
        """Follow a run."""
        self.hass = hass
        self.run = run
        self.account = run.account
        self.end = full_hour(run.begin)
        self.begin = self.end - timedelta(days=1)

    @property
    def hours(self) -> Iterator[datetime]:
        """Return the imported hours."""
        return (self.begin + n * HOUR for n in range(24))

    def device(self, name: int) -> tuple[Plant, Device]:
        """Return a device by its id, or the first of a type."""
        return next(
            (plant, device)
            for plant, device in self.run.simulator.home.devices()
            if name in (device.id, device.type_id)
        )

    def true(self, name: int, key: str, hour: datetime) -> list[float]:
        """Return the collected values of an item in an hour, if known."""
        plant, device = self.device(name)
        values = []
        for n in range(12):
            moment = Moment(plant, int((hour + n * COLLECTION).timestamp()))
            items = device_items(moment, device) or {}
            values.append(history_items(moment, device, items).get(key))
        return [value for value in values if isinstance(value, int | float)]

    async def imported(self) -> None:
        """Advance the time until everything is imported."""
        entry_id = self.account.entry.entry_id
        await self.run.poll(POLL)
        await self.run.poll(POLL)
        while self.account.value(entry_id, "history") != "idle":
            await self.run.poll(POLL)
            assert self.run.now < self.run.begin + 3 * HOUR

    async def rows(
        self,
        entity_ids: Iterable[str],
        units: dict[str, str] | None,
        period: Literal["hour", "day"],
    ) -> dict[str, list[StatisticsRow]]:
        """Return the rows of the day before, by hour or by day."""
        recorder = get_instance(self.hass)
        await recorder.async_block_till_done()
        return await recorder.async_add_executor_job(
            statistics_during_period,
            self.hass,
            datetime.fromtimestamp(0, UTC),
            self.end,
            set(entity_ids),
            period,
            units,
            {"mean", "min", "max", "state", "change"},
        )

    async def hours_of(
        self,
        name: int,
        key: str,
        units: dict[str, str] | None = None,
        period: Literal["hour", "day"] = "hour",
    ) -> dict[datetime, StatisticsRow]:
        """Return the rows of an item, by hour or by day."""
        registered = self.account.registered(self.device(name)[1].id, key)
        assert registered
        rows = await self.rows([registered.entity_id], units, period)
        return {
            datetime.fromtimestamp(row["start"], UTC): row
            for row in rows.get(registered.entity_id, [])
        }

    async def unit(self, name: int, key: str) -> str | None:
        """Return the unit of an item's statistics."""
        registered = self.account.registered(self.device(name)[1].id, key)
        assert registered
        metadata = await get_instance(self.hass).async_add_executor_job(
            lambda: get_metadata(self.hass, statistic_ids={registered.entity_id})
        )
        return metadata[registered.entity_id][1]["unit_of_measurement"]


@pytest.fixture
async def days(
    simulator: Simulator,
    recorder_mock: Recorder,
    hass: HomeAssistant,
    account: Account,
    freezer: FrozenDateTimeFactory,
) -> Days:
    """Return a run with all entities recorded, and a day of history."""
    account.history = 1
    run = Run(hass, account, simulator, freezer)
    await run.start()
    get_instance(hass).entity_filter = None
    return Days(hass, run)


def problems(
    rows: dict[datetime, StatisticsRow], true: dict[datetime, list[float]]
) -> list[str]:
    """Return the hours with a wrong mean, minimum or maximum."""
    found = []
    for hour in sorted(rows.keys() | true.keys()):
        values, row = true.get(hour), rows.get(hour)
        if not values or row is None:
            found.append(f"{hour}: {values} {row}")
            continue
        for key, expected in (
            ("mean", math.fsum(values) / len(values)),
            ("min", min(values)),
            ("max", max(values)),
        ):
            shown: Any = row.get(key)
            if shown is None or abs(shown - expected) > TOLERANCE:
                found.append(f"{hour}: {key} {shown} {expected}")
    return found


async def test_all_measurements(days: Days) -> None:
    """Each hour has the mean, minimum and maximum of its collections."""
    await days.imported()
    names = {str(device.id) for _, device in days.run.simulator.home.devices()}
    compared = 0
    wrong = []
    for registered in er.async_entries_for_config_entry(
        er.async_get(days.hass), days.account.entry.entry_id
    ):
        device_id, _, key = registered.unique_id.partition("_")
        state = days.hass.states.get(registered.entity_id)
        if state is None or state.attributes.get(ATTR_STATE_CLASS) != "measurement":
            continue
        if device_id not in names:
            continue
        compared += 1
        rows = await days.hours_of(int(device_id), key)
        is_in_kilo = device_id == str(INVERTER) and key in IN_KILO
        true = {
            hour: [
                value * (1000 if is_in_kilo else 1)
                for value in days.true(int(device_id), key, hour)
            ]
            for hour in days.hours
        }
        wrong += [f"{key} {problem}" for problem in problems(rows, true)]
    assert wrong == []
    assert compared >= 10


async def test_values_that_are_not_known(days: Days) -> None:
    """An hour is calculated from its known values, or left out."""
    night = days.end - 8 * HOUR
    unknown = (night, night + HOUR / 2), (night + HOUR, night + 2 * HOUR)

    def change(at: datetime, value: Any) -> Any:
        return "N/A" if any(a <= at < b for a, b in unknown) else value

    days.run.simulator.distort(INVERTER, "temperature", change, history=True)
    await days.imported()
    true = {hour: days.true(INVERTER, "temperature", hour) for hour in days.hours}
    true[night] = true[night][6:]
    del true[night + HOUR]
    assert problems(await days.hours_of(INVERTER, "temperature"), true) == []


async def test_hours_that_the_server_has_not_collected(days: Days) -> None:
    """Without a collection, a value is valid for a quarter of an hour."""
    night = days.end - 8 * HOUR
    first = int(night.timestamp() * 1000)

    def lost(answer: dict[str, Any]) -> dict[str, Any]:
        rows = [
            row
            for row in answer["data"]
            if not 0 < row["collectTime"] - first < 7_200_000
        ]
        return answer | {"data": rows}

    days.run.simulator.faults.add(faults.Rewrite(lost), "getDevHistoryKpi")
    await days.imported()
    true = {hour: days.true(INVERTER, "temperature", hour) for hour in days.hours}
    true[night] = true[night][:1]
    del true[night + HOUR]
    assert problems(await days.hours_of(INVERTER, "temperature"), true) == []


def apart(mean: float | None, angles: Iterable[float]) -> float:
    """Return the difference of a mean of angles in degrees."""
    assert mean is not None
    each = [math.radians(angle) for angle in angles]
    east, north = math.fsum(map(math.sin, each)), math.fsum(map(math.cos, each))
    true = math.degrees(math.atan2(east, north))
    return abs((mean - true + 180) % 360 - 180)


class TestFarm:
    """A farm with an EMI, and an older meter."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a farm with one inverter."""
        home = homes.farm(inverters=1)
        home.plants[0].firmware = "kw"
        return home

    async def test_wind_direction(self, days: Days) -> None:
        """Directions have a circular mean, and no minimum or maximum."""

        def turn(at: datetime, value: float) -> float:
            # Some hours have a constant direction, others do not.
            return (value + 120 if at.hour % 3 else value * 4) % 360

        emi = days.device(DeviceType.EMI)[1].id
        days.run.simulator.distort(emi, "wind_direction", turn, history=True)
        await days.imported()
        true = {
            hour: [
                turn(hour, value) for value in days.true(emi, "wind_direction", hour)
            ]
            for hour in days.hours
        }
        rows = await days.hours_of(emi, "wind_direction")
        assert list(rows) == list(days.hours)
        for hour, row in rows.items():
            assert apart(row["mean"], true[hour]) < 0.01
            assert (row["min"], row["max"]) == (None, None)
        # Daily means of Home Assistant depend on the weights of the hours.
        midnight = days.begin + 14 * HOUR
        evening = [
            each for hour in days.hours if hour < midnight for each in true[hour]
        ]
        [day, _] = (await days.hours_of(emi, "wind_direction", period="day")).values()
        assert apart(day["mean"], evening) < 0.01

    async def test_grid_meter_in_kilowatts(self, days: Days) -> None:
        """The history of a meter in kW is in W, as detected from live values."""
        await days.imported()
        meter = days.device(DeviceType.GRID_METER)[1].id
        rows = await days.hours_of(meter, "active_power")
        assert await days.unit(meter, "active_power") == "W"
        true = {
            hour: [1000 * kw for kw in days.true(meter, "active_power", hour)]
            for hour in days.hours
        }
        assert max(max(values) for values in true.values()) > 1000
        assert problems(rows, true) == []


class TestTelecom:
    """A radio site, whose items have other names in the history."""

    @pytest.fixture
    def home(self) -> Home:
        """Return the radio site."""
        return homes.telecom()

    async def test_item_that_only_history_has(self, days: Days) -> None:
        """The load of the history is the active power of the live values."""
        await days.imported()
        output = days.device(DeviceType.AC_OUTPUT)[1].id
        true = {
            hour: [
                1000 * kw for kw in days.true(output, "total_load_active_power", hour)
            ]
            for hour in days.hours
        }
        assert problems(await days.hours_of(output, "active_power"), true) == []
        assert await days.hours_of(output, "ac_voltage") == {}

    async def test_types_without_history(self, days: Days) -> None:
        """Types without history are not requested."""
        await days.imported()
        asked = {
            call.body["devTypeId"]
            for call in days.run.simulator.calls_to("getDevHistoryKpi")
        }
        assert asked == {60001, 60003, 60010, 60014, 60043}


@pytest.mark.parametrize(
    ("recorded", "power", "energy"),
    [(["total_cap"], "kW", "kWh"), (["active_power"], "W", "MWh"), ([], "kW", "MWh")],
)
async def test_units_that_the_user_has_chosen(
    days: Days, recorded: list[str], power: str, energy: str
) -> None:
    """Rows are in the unit of the statistics, which is the first unit shown."""
    recorder = get_instance(days.hass)
    registry = er.async_get(days.hass)
    await days.account.poll(timedelta(seconds=1))
    chosen = {"active_power": "kW", "total_cap": "MWh"}
    ids = {}
    for key, unit in chosen.items():
        registered = days.account.registered(INVERTER, key)
        assert registered
        ids[key] = registered.entity_id
        registry.async_update_entity_options(
            ids[key], "sensor", {"unit_of_measurement": unit}
        )
    await days.run.poll(POLL)
    # Deleted statistics start again in the new unit.
    recorder.async_clear_statistics([ids[key] for key in chosen.keys() - recorded])
    await days.imported()
    assert await days.unit(INVERTER, "active_power") == power
    assert await days.unit(INVERTER, "total_cap") == energy
    rows = await days.hours_of(INVERTER, "active_power", {"power": "kW"})
    true = {hour: days.true(INVERTER, "active_power", hour) for hour in days.hours}
    assert problems(rows, true) == []
    counted = await days.hours_of(INVERTER, "total_cap", {"energy": "kWh"})
    counter = days.run.counter("total_cap")
    assert list(counted) == list(days.hours)
    for hour, row in counted.items():
        after, before = counter.true(hour + HOUR), counter.true(hour)
        assert row["change"] == pytest.approx(after - before, abs=0.01)
        assert row["state"] == pytest.approx(after, abs=0.01)


async def test_disabled_entities(days: Days) -> None:
    """Disabled entities are not imported, even if they were recorded before."""
    await days.run.poll(POLL)
    await days.run.poll(POLL)
    await get_instance(days.hass).async_block_till_done()
    disabled = days.account.registered(INVERTER, "temperature")
    assert disabled
    er.async_get(days.hass).async_update_entity(
        disabled.entity_id, disabled_by=er.RegistryEntryDisabler.USER
    )
    await days.hass.async_block_till_done()
    assert await days.unit(INVERTER, "temperature") == "°C"
    await days.imported()
    assert await days.hours_of(INVERTER, "temperature") == {}
    assert await days.hours_of(INVERTER, "a_u") == {}
    assert len(await days.hours_of(INVERTER, "mppt_power")) == 24


async def test_metadata(days: Days) -> None:
    """The import does not change the metadata of statistics."""
    for _ in range(2):
        await days.run.poll(POLL)
    recorder = get_instance(days.hass)
    await recorder.async_block_till_done()
    before = await recorder.async_add_executor_job(get_metadata, days.hass)
    await days.imported()
    after = await recorder.async_add_executor_job(get_metadata, days.hass)
    # Entities of alarms may be recorded for the first time.
    assert {each: after[each] for each in before} == before
    kinds = {metadata["mean_type"] for _, metadata in after.values()}
    assert kinds == {StatisticMeanType.NONE, StatisticMeanType.ARITHMETIC}
