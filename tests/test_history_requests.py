"""Tests of import requests: responses, progress, and errors."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
import logging
import threading
from typing import Any, Final, override

import pytest

from custom_components.smartpvms.const import DOMAIN
from homeassistant.components.recorder import Recorder, get_instance
from homeassistant.components.recorder.tasks import RecorderTask
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import device_registry as dr, issue_registry as ir
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Home

from . import history, statistics
from .conftest import POLL, Account
from .history import HOUR, Past, full_hour

quiet = statistics.recorder_config
simulator = history.simulator
past = history.past

INTERFACE: Final = "getDevHistoryKpi"
# The next call is allowed after this time.
MINUTE: Final = timedelta(seconds=62)
DAY: Final = timedelta(days=1)

DONGLE: Final = 1000000035436841
INVERTER: Final = 1000000035436842
BATTERY: Final = 1000000035436843
METER: Final = 1000000035436844
PLANT: Final = "NE=35436840"


@pytest.fixture
def recorder_config(quiet: dict[str, int]) -> dict[str, int]:
    """Commit after every state: an in-memory database serves one thread at a time."""
    return {**quiet, "commit_interval": 0}


@pytest.fixture
def start() -> str:
    """Return when the account is added."""
    return "2026-06-21 12:20:30+02:00"


@pytest.fixture
def days() -> int:
    """Return the number of days to import when the account is added."""
    return 0


@pytest.fixture
async def recorded(past: Past) -> Past:
    """Return the run after everything is recorded."""
    await past.poll(POLL)
    await past.poll(POLL)
    return past


async def request(hass: HomeAssistant, account: Account, **data: Any) -> Any:
    """Request an import with the action."""
    return await hass.services.async_call(
        DOMAIN,
        "import_history",
        {"config_entry_id": account.entry.entry_id, **data},
        blocking=True,
        return_response=True,
    )


def registry_id(hass: HomeAssistant, account: Account, name: int | str) -> str:
    """Return the registry ID of a device or plant."""
    device = dr.async_get(hass).async_get_device_by_identifier(
        (DOMAIN, str(name)), account.entry.entry_id
    )
    assert device
    return device.id


def asked(simulator: Simulator) -> list[tuple[int, datetime, datetime]]:
    """Return the type, start and end of all history calls."""
    return [
        (
            call.body["devTypeId"],
            datetime.fromtimestamp(call.body["startTime"] / 1000, UTC),
            datetime.fromtimestamp(call.body["endTime"] / 1000, UTC),
        )
        for call in simulator.calls_to(INTERFACE)
    ]


def shown(past: Past, key: str) -> str | None:
    """Return the state of a sensor of the import."""
    account = past.run.account
    return account.value(account.entry.entry_id, key)


def without_reports(past: Past) -> None:
    """Withdraw the permission for plant reports, which leaves the devices."""
    past.run.simulator.withdraw_permission("getKpiStationHour")


def is_importing(past: Past) -> bool:
    """Return whether authorized history is left to import."""
    if past.history_state == "waiting" and "not_authorized" in issues(past.hass):
        return False
    # The state follows a newly planned job with a delay.
    history = past.run.account.entry.runtime_data.history
    return past.history_state != "idle" or bool(history.queue.days_left)


async def until_idle(past: Past, passed: timedelta = POLL) -> None:
    """Advance the time until no authorized history is left to import."""
    end = past.run.now + DAY
    await past.poll(passed)
    while is_importing(past):
        await past.poll(passed)
        assert past.run.now < end


def issues(hass: HomeAssistant) -> list[str | None]:
    """Return the translation keys of the repairs."""
    return [
        issue.translation_key
        for issue in ir.async_get(hass).issues.values()
        if issue.domain == DOMAIN
    ]


async def true_until_now(past: Past) -> list[str]:
    """Return the differences from the true energies, up to the last full hour."""
    now = past.run.now
    await past.until(full_hour(now) + HOUR + timedelta(seconds=30), POLL)
    return await past.problems(past.begin, full_hour(now) + HOUR)


class TestBadInput:
    """Invalid requests raise an error and have no effect."""

    @pytest.fixture(autouse=True)
    async def nothing_is_done(self, recorded: Past) -> AsyncIterator[None]:
        """Check that no call is made and nothing is written."""
        before = await recorded.rows()
        yield
        await recorded.poll(POLL)
        after = await recorded.rows()
        assert {row for row in after if row[1] < recorded.run.begin.timestamp()} == (
            {row for row in before if row[1] < recorded.run.begin.timestamp()}
        )
        assert recorded.run.simulator.calls_to(INTERFACE) == []
        assert recorded.history_state == "idle"

    @pytest.mark.parametrize(
        ("begin", "end", "key", "placeholders"),
        [
            ("2026-06-21 10:00", "2026-06-21 09:59", "end_before_start", {}),
            ("2026-06-21 10:00", "2026-06-21 10:00", "end_before_start", {}),
            ("2026-06-21 12:31", None, "start_in_future", {}),
            ("2026-06-21 12:31", "2026-06-21 12:30", "start_in_future", {}),
            ("2025-06-21 12:29", None, "too_long_ago", {"days": "365"}),
            ("2001-01-01", "2001-02-01", "too_long_ago", {"days": "365"}),
        ],
    )
    async def test_times(
        self,
        hass: HomeAssistant,
        account: Account,
        begin: str,
        end: str | None,
        key: str,
        placeholders: dict[str, str],
    ) -> None:
        """Start and end must be valid and within the server's history."""
        times = {"start": begin, "end": end}
        with pytest.raises(ServiceValidationError) as caught:
            await request(hass, account, **{k: v for k, v in times.items() if v})
        assert caught.value.translation_domain == DOMAIN
        assert caught.value.translation_key == key
        assert (caught.value.translation_placeholders or {}) == placeholders

    @pytest.mark.parametrize("name", [None, DONGLE, "entry"], ids=str)
    async def test_devices(
        self, hass: HomeAssistant, account: Account, name: Any
    ) -> None:
        """Unknown devices, those without history, and the account's own are invalid."""
        name = account.entry.entry_id if name == "entry" else name
        device_id = registry_id(hass, account, name) if name else "0123456789abcdef"
        good = registry_id(hass, account, INVERTER)
        with pytest.raises(ServiceValidationError) as caught:
            await request(
                hass, account, start="2026-06-20", device_id=[good, device_id]
            )
        assert caught.value.translation_key == "no_history_of_device"

    async def test_accounts(self, hass: HomeAssistant, account: Account) -> None:
        """An unknown account, and one that is not loaded, are invalid."""
        with pytest.raises(ServiceValidationError) as caught:
            await hass.services.async_call(
                DOMAIN,
                "import_history",
                {"config_entry_id": "0123456789abcdef", "start": "2026-06-20"},
                blocking=True,
            )
        assert caught.value.translation_key == "service_config_entry_not_found"
        await hass.config_entries.async_unload(account.entry.entry_id)
        with pytest.raises(ServiceValidationError) as caught:
            await request(hass, account, start="2026-06-20")
        assert caught.value.translation_key == "service_config_entry_not_loaded"
        await hass.config_entries.async_setup(account.entry.entry_id)
        await hass.async_block_till_done()


async def test_no_recorder(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """Without a recorder, the action raises an error."""
    with pytest.raises(ServiceValidationError) as caught:
        await request(hass, added, start="2026-06-20")
    assert caught.value.translation_key == "recorder_not_loaded"
    await added.poll()
    assert simulator.calls_to(INTERFACE) == []


async def test_history_option_without_a_recorder(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """The import chosen at setup waits for a recorder and disturbs nothing."""
    account.history = 7
    await account.add()
    for _ in range(3):
        await account.poll()
    assert account.entry.state is ConfigEntryState.LOADED
    assert simulator.calls_to(INTERFACE) == []


class Purge(RecorderTask):
    """Recorder task that blocks until it is released."""

    commit_before = False

    def __init__(self) -> None:
        """Create the task without running it."""
        self.over = threading.Event()

    @override
    def run(self, instance: Recorder) -> None:
        """Block the recorder."""
        self.over.wait()


class TestBusyRecorder:
    """A recorder that does not respond."""

    @pytest.fixture
    def purge(self, recorded: Past) -> Iterator[Purge]:
        """Return the task that blocks the recorder."""
        purge = Purge()
        yield purge
        purge.over.set()

    async def test_request(self, past: Past, purge: Purge) -> None:
        """A request is rejected after a timeout, and can be repeated."""
        get_instance(past.hass).queue_task(purge)
        hass, account = past.hass, past.run.account
        refused = hass.async_create_task(
            request(hass, account, start="2026-06-21 08:00")
        )
        await account.pass_time(timedelta(seconds=19))
        assert not refused.done()
        await account.pass_time(timedelta(seconds=2))
        purge.over.set()
        with pytest.raises(HomeAssistantError) as caught:
            await refused
        assert caught.value.translation_key == "recorder_busy"
        assert past.run.simulator.calls_to(INTERFACE) == []
        await request(hass, account, start="2026-06-20 12:00")
        await until_idle(past)
        assert await true_until_now(past) == []

    async def test_run(self, recorded: Past, purge: Purge) -> None:
        """A running import waits, and continues."""
        await request(recorded.hass, recorded.run.account, start="2026-06-20 12:00")
        get_instance(recorded.hass).queue_task(purge)
        await recorded.run.account.pass_time(timedelta(minutes=11))
        assert recorded.history_state == "waiting"
        assert recorded.run.simulator.calls_to(INTERFACE) == []
        purge.over.set()
        await until_idle(recorded)
        assert await true_until_now(recorded) == []


class TestAnswers:
    """The response matches the import."""

    async def test_everything(self, recorded: Past) -> None:
        """Without devices, all are imported; the response has the number of calls."""
        hass, account = recorded.hass, recorded.run.account
        simulator = recorded.run.simulator
        plan = await request(hass, account, start="2026-06-14 12:34:56")
        assert plan == {
            "devices": 3,
            "start": "2026-06-14T12:00:00+02:00",
            "end": "2026-06-21T12:00:00+02:00",
            "calls": 9,
            "joined": False,
        }
        await until_idle(recorded)
        calls = asked(simulator)
        assert len(calls) == plan["calls"]
        assert [type_id for type_id, _, _ in calls] == [38, 39, 47] * 3
        ends = [end for _, _, end in calls[::3]]
        assert ends == sorted(ends, reverse=True)
        first = datetime.fromisoformat(plan["start"])
        assert min(start for _, start, _ in calls) == first
        assert max(end - start for _, start, end in calls) <= timedelta(days=3)
        rows = await recorded.rows()
        entity = account.registered(INVERTER, "total_cap")
        assert entity
        hours = [start for entity_id, start in rows if entity_id == entity.entity_id]
        assert len([start for start in hours if start >= first.timestamp()]) >= 7 * 24
        assert min(hours) == first.timestamp()
        assert simulator.refusals == []

    @pytest.mark.parametrize(
        ("names", "types"),
        [
            ([BATTERY], [39]),
            ([BATTERY, INVERTER, BATTERY], [39, 38]),
            ([PLANT], [38, 39, 47]),
            ([METER, PLANT], [47, 38, 39]),
        ],
    )
    async def test_devices(
        self, recorded: Past, names: list[int | str], types: list[int]
    ) -> None:
        """A plant includes all of its devices, and each device is imported once."""
        hass, account = recorded.hass, recorded.run.account
        ids = [registry_id(hass, account, name) for name in names]
        plan = await request(hass, account, device_id=ids, start="2026-06-21 09:00")
        assert (plan["devices"], plan["calls"]) == (len(types), len(types))
        await until_idle(recorded)
        assert [type_id for type_id, _, _ in asked(recorded.run.simulator)] == types
        early = {
            entity_id
            for entity_id, start in await recorded.rows()
            if start < recorded.run.at("2026-06-21 11:00").timestamp()
        }
        yields = account.registered(INVERTER, "total_cap")
        assert yields
        assert (yields.entity_id in early) == (38 in types)

    async def test_one_device(self, recorded: Past) -> None:
        """A single device needs no list."""
        hass, account = recorded.hass, recorded.run.account
        plan = await request(
            hass,
            account,
            device_id=registry_id(hass, account, METER),
            start="2026-06-21 09:00",
        )
        assert plan["devices"] == 1

    async def test_times_of_a_user(self, recorded: Past) -> None:
        """Times are local; any end is valid, and the current hour is excluded."""
        hass, account = recorded.hass, recorded.run.account
        begin, end = "2026-06-21 07:59:00", "2026-06-21 10:30:00"
        plan = await request(hass, account, start=begin, end=end)
        assert plan["start"] == "2026-06-21T07:00:00+02:00"
        assert plan["end"] == "2026-06-21T10:00:00+02:00"
        await until_idle(recorded)
        hours = {
            start
            for _, start in await recorded.rows()
            if start < recorded.run.at("2026-06-21 12:00").timestamp()
        }
        assert hours == {
            recorded.run.at(f"2026-06-21 {hour:02}:00").timestamp()
            for hour in (7, 8, 9)
        }

    async def test_end_in_the_future(self, recorded: Past) -> None:
        """An end in the future is replaced by now."""
        hass, account = recorded.hass, recorded.run.account
        plan = await request(hass, account, start="2026-06-21 09:00", end="2026-07-01")
        assert plan["end"] == "2026-06-21T12:00:00+02:00"

    async def test_merged_requests(self, recorded: Past) -> None:
        """A request during an import is merged with it."""
        hass, account = recorded.hass, recorded.run.account
        inverter = registry_id(hass, account, INVERTER)
        first = await request(
            hass, account, device_id=inverter, start="2026-06-20 20:00"
        )
        assert not first["joined"]
        await recorded.poll(timedelta(seconds=1))
        second = await request(hass, account, start="2026-06-20 12:00")
        assert second["joined"]
        assert second["devices"] == 3
        assert second["start"] == "2026-06-20T12:00:00+02:00"
        await until_idle(recorded)
        assert await true_until_now(recorded) == []
        third = await request(hass, account, start="2026-06-20 12:00")
        assert not third["joined"]
        assert recorded.run.simulator.refusals == []

    @pytest.mark.parametrize("wait", [timedelta(0), timedelta(seconds=1), MINUTE])
    @pytest.mark.parametrize("is_later", [True, False])
    async def test_merged_requests_with_another_end(
        self, recorded: Past, wait: timedelta, *, is_later: bool
    ) -> None:
        """A window with a finished batch is imported again for its whole new period."""
        hass, account = recorded.hass, recorded.run.account
        begin = "2026-06-19 08:00"
        first = recorded.begin = recorded.run.at(begin)
        recorded.truths = [history.Truth(each.counter) for each in recorded.truths]
        recorded.record_past(first, full_hour(recorded.run.now))
        recorded.record()
        early, late = {"start": begin, "end": "2026-06-19 12:00"}, {"start": begin}
        await request(hass, account, **(early if is_later else late))
        if wait:
            await recorded.poll(wait)
        plan = await request(hass, account, **(late if is_later else early))
        assert plan["joined"]
        await until_idle(recorded)
        rows = await recorded.rows()
        hours = {(first + n * HOUR).timestamp() for n in range(52)}
        for device, key in (
            (INVERTER, "total_cap"),
            (BATTERY, "total_charged_energy"),
            (METER, "active_cap"),
        ):
            entity = account.registered(device, key)
            assert entity
            there = {at for entity_id, at in rows if entity_id == entity.entity_id}
            assert hours <= there
        assert await true_until_now(recorded) == []

    async def test_hours_long_ago(self, past: Past) -> None:
        """Importing hours long ago does not change later hours."""
        hass, account, recorded = past.hass, past.run.account, past
        get_instance(hass).entity_filter = None
        await past.poll(POLL)
        await past.poll(POLL)
        before = await recorded.rows()
        await request(hass, account, start="2026-06-18 08:00", end="2026-06-18 12:00")
        await until_idle(recorded)
        after = await recorded.rows()
        entity = account.registered(INVERTER, "total_cap")
        assert entity
        counter = recorded.run.counter("total_cap")
        for hour in (8, 9, 10, 11):
            at = recorded.run.at(f"2026-06-18 {hour:02}:00")
            row: Any = after[entity.entity_id, at.timestamp()]
            assert row["state"] == pytest.approx(counter.true(at + HOUR), abs=0.01)
        assert before.keys() <= after.keys()
        assert await true_until_now_from(recorded, recorded.run.begin) == []


async def true_until_now_from(past: Past, begin: datetime) -> list[str]:
    """Return the live hours with more energy than was counted after a moment."""
    await past.until(full_hour(past.run.now) + HOUR + timedelta(seconds=30), POLL)
    live = full_hour(begin)
    problems = []
    for truth in past.truths:
        state = past.run.account.state(truth.counter.name, truth.counter.key)
        if state is None or isinstance(truth.counter.name, str):
            continue
        changes = (await past.changes())[state.entity_id]
        end = live + HOUR - timedelta(seconds=1)
        counted = truth.counter.true(end) - truth.counter.true(begin)
        if abs(changes[live] - counted) > 0.05 + counted / 4:
            problems.append(f"{truth.counter.key}: {changes[live]} {counted}")
    return problems


class TestRun:
    """An import from start to end."""

    @pytest.fixture
    def days(self) -> int:
        """Return a short history."""
        return 1

    @pytest.fixture
    def log(self, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
        """Return the log from level info."""
        caplog.set_level(logging.INFO, "custom_components.smartpvms")
        return caplog

    @staticmethod
    def lines(log: pytest.LogCaptureFixture) -> list[str]:
        """Return the log lines of the integration, without those of alarms."""
        return [
            record.getMessage()
            for phase in ("setup", "call")
            for record in log.get_records(phase)
            if record.name.startswith("custom_components.smartpvms")
            and "alarms" not in record.getMessage()
        ]

    async def test_progress(self, past: Past, log: pytest.LogCaptureFixture) -> None:
        """The sensors show the progress, and the log contains the start and the end."""
        without_reports(past)
        assert past.history_state == "running"
        assert shown(past, "history_progress") == "0.0"
        # Three devices and a plant, with the hour of the set-up.
        assert float(shown(past, "history_left") or "nan") == pytest.approx(4 + 1 / 24)
        await past.poll(POLL)
        await past.poll(POLL)
        await past.poll(POLL)
        assert past.history_state == "running"
        await until_idle(past)
        assert shown(past, "history_progress") == "100.0"
        assert shown(past, "history_left") == "0.0"
        assert self.lines(log) == [
            "Starting the import of device history",
            "Import of device history finished",
        ]
        assert await true_until_now(past) == []
        assert past.run.simulator.refusals == []

    @pytest.mark.parametrize("days", [8])
    async def test_progress_in_percent(self, past: Past) -> None:
        """Percentage and days follow the finished windows."""
        # Three devices and a plant, with the hour of the set-up.
        days = 4 * 8 + 1 / 24
        seen = []
        while past.run.account.entry.runtime_data.history.queue.days_left:
            seen.append((shown(past, "history_progress"), shown(past, "history_left")))
            await past.poll(MINUTE)
        percents = [float(percent or "nan") for percent, _ in seen]
        lefts = [float(left or "nan") for _, left in seen]
        assert percents[0] == 0
        assert len(set(percents)) > 3
        for (before, after), left in zip(pairwise(percents), lefts[1:], strict=True):
            assert before <= after < 100
            assert left == pytest.approx(days * (100 - after) / 100)

    @pytest.mark.parametrize("days", [0])
    async def test_nothing_to_do(
        self, past: Past, log: pytest.LogCaptureFixture
    ) -> None:
        """Without an import, the log and the sensors are silent."""
        await past.poll(POLL)
        assert past.history_state == "idle"
        assert shown(past, "history_progress") == "100.0"
        assert shown(past, "history_left") == "0.0"
        assert self.lines(log) == []

    @pytest.mark.parametrize(
        "fault",
        [
            faults.HalfJson(),
            faults.NullData(),
            faults.HttpStatus(503),
            faults.HtmlPage(),
            faults.EmptyBody(),
            faults.DropConnection(),
            faults.FailCode(20200),
            faults.FailCode(305),
            faults.FailCode(407),
            faults.FailCode(20008),
        ],
        ids=[
            "half",
            "null",
            "503",
            "html",
            "empty",
            "drop",
            "20200",
            "305",
            "407",
            "20008",
        ],
    )
    async def test_answers_that_fail(
        self, past: Past, fault: faults.Fault, log: pytest.LogCaptureFixture
    ) -> None:
        """A failed response writes nothing, and the call is repeated."""
        without_reports(past)
        simulator = past.run.simulator
        simulator.faults.add(fault, INTERFACE, times=2)
        while len(simulator.calls_to(INTERFACE)) < 2:
            await past.poll(POLL)
        assert past.history_state == "waiting"
        hours = {start for _, start in await past.rows()}
        assert all(start >= full_hour(past.run.begin).timestamp() for start in hours)
        await until_idle(past)
        assert self.lines(log) == [
            "Starting the import of device history",
            "Import of device history finished",
        ]
        assert await true_until_now(past) == []
        assert simulator.refusals == []

    @pytest.mark.parametrize(
        ("code", "calls"), [(20013, 1), (20008, 3), (20006, 3), (20009, 3)]
    )
    async def test_devices_whose_history_is_refused(
        self, past: Past, code: int, calls: int, log: pytest.LogCaptureFixture
    ) -> None:
        """Devices without history are skipped, and the others are imported."""
        simulator = past.run.simulator
        simulator.faults.add(
            faults.FailCode(code), INTERFACE, when=lambda body: body["devTypeId"] == 39
        )
        await until_idle(past)
        types = [type_id for type_id, _, _ in asked(simulator)]
        assert types.count(39) == calls
        assert types.count(38) == types.count(47) == 1
        past.truths = [truth for truth in past.truths if truth.counter.name != BATTERY]
        assert await true_until_now(past) == []
        early = full_hour(past.run.begin).timestamp()
        battery = past.run.account.registered(BATTERY, "charge_cap")
        assert battery
        assert not [
            start
            for entity_id, start in await past.rows()
            if entity_id == battery.entity_id and start < early
        ]

    async def test_a_quota_that_others_use_up(self, past: Past) -> None:
        """The import shows that it waits, and repeats calls ever more slowly."""
        simulator = past.run.simulator
        simulator.use_up(INTERFACE)
        await past.until(past.run.now + 3 * HOUR, POLL)
        assert past.history_state == "waiting"
        assert shown(past, "history_progress") == "0.0"
        # After 1 minute, then 4, then 16, and so on.
        assert len(simulator.calls_to(INTERFACE)) <= 5

    async def test_permission(self, past: Past, hass: HomeAssistant) -> None:
        """A missing permission is a repair until it is granted."""
        without_reports(past)
        simulator = past.run.simulator
        simulator.withdraw_permission(INTERFACE)
        while past.history_state != "waiting":
            await past.poll(POLL)
        assert issues(hass) == ["no_permission_device_history"]
        await past.until(past.run.now + 6 * HOUR, POLL)
        assert past.history_state == "waiting"
        assert len(asked(simulator)) <= 10
        assert past.run.account.value(INVERTER, "run_state") == "on"
        simulator.grant_permission(INTERFACE)
        await until_idle(past)
        assert issues(hass) == []
        assert await true_until_now(past) == []


class TestNotAllowed:
    """History without authorization waits, and the other history is imported."""

    @pytest.fixture
    def days(self) -> int:
        """Return a short history."""
        return 1

    @pytest.mark.parametrize("killed", [False, True])
    async def test_plant(
        self, past: Past, hass: HomeAssistant, *, killed: bool
    ) -> None:
        """The history of a plant is imported once it is authorized."""
        without_reports(past)
        simulator, account = past.run.simulator, past.run.account
        [plant] = simulator.home.plants
        simulator.unauthorize(plant.code)
        await until_idle(past)
        await past.until(past.run.now + 6 * HOUR, POLL)
        assert past.history_state == "waiting"
        # Three devices and a plant, with the hour of the set-up.
        assert float(shown(past, "history_left") or "nan") == pytest.approx(4 + 1 / 24)
        assert len(asked(simulator)) <= 6
        if killed:
            await account.kill()
            await past.poll(POLL)
            assert past.history_state == "waiting"
        simulator.authorize(plant.code)
        back = past.run.now
        # The plant is read first, then its devices and their list.
        await past.until(back + 3 * POLL, POLL)
        await until_idle(past)
        assert past.run.now < back + 2 * HOUR
        assert len(await self.hours_before(past, INVERTER, "total_cap")) == 24
        assert len(await self.hours_before(past, METER, "active_cap")) == 24
        assert simulator.refusals == []

    @staticmethod
    async def hours_before(past: Past, device: int, key: str) -> set[float]:
        """Return the hours of an entity before the account was added."""
        entity = past.run.account.registered(device, key)
        assert entity
        return {
            at
            for entity_id, at in await past.rows()
            if entity_id == entity.entity_id
            and at < full_hour(past.run.begin).timestamp()
        }

    @pytest.mark.parametrize("code", [20056, 20621, 20007, 20045, 30029])
    async def test_history_alone(self, past: Past, code: int) -> None:
        """Devices whose history alone is not authorized are retried every few hours."""
        simulator = past.run.simulator
        fault = simulator.faults.add(
            faults.FailCode(code), INTERFACE, when=lambda body: body["devTypeId"] == 39
        )
        await past.until(past.run.now + 12 * HOUR, POLL)
        assert past.history_state == "waiting"
        types = [type_id for type_id, _, _ in asked(simulator)]
        assert types.count(38) == types.count(47) == 1
        assert 2 <= types.count(39) <= 4
        assert len(await self.hours_before(past, INVERTER, "total_cap")) == 24
        key = "total_charged_energy"
        assert await self.hours_before(past, BATTERY, key) == set()
        is_of_owner = code in (20056, 20621)
        repair = "not_authorized" if is_of_owner else "plant_refused"
        assert issues(past.hass) == [repair]
        fault.remove()
        await past.until(past.run.now + 4 * HOUR + 2 * POLL, POLL)
        assert past.history_state == "idle"
        assert len(await self.hours_before(past, BATTERY, key)) == 24
        assert issues(past.hass) == []

    @pytest.mark.parametrize("jump", [40 * DAY, -40 * DAY], ids=str)
    async def test_wrong_clock(self, past: Past, jump: timedelta) -> None:
        """An import goes on after a start with a wrong clock."""
        simulator, account = past.run.simulator, past.run.account
        fault = simulator.faults.add(faults.DropConnection(), INTERFACE)
        await past.until(past.run.now + HOUR, POLL)
        await account.kill(jump)
        await past.poll(POLL)
        fault.remove()
        await account.kill(-jump)
        await until_idle(past)
        assert len(await self.hours_before(past, INVERTER, "total_cap")) == 24

    async def test_every_type(self, past: Past, hass: HomeAssistant) -> None:
        """Some servers reject every type if the permission is missing."""
        simulator = past.run.simulator
        fault = simulator.faults.add(faults.FailCode(20013), INTERFACE)
        await past.until(past.run.now + 12 * HOUR, POLL)
        assert past.history_state == "waiting"
        assert len(asked(simulator)) <= 12
        await past.run.account.kill()
        fault.remove()
        await past.until(past.run.now + 5 * HOUR + 4 * POLL, POLL)
        assert past.history_state == "idle"
        assert len(await self.hours_before(past, BATTERY, "charge_cap")) == 24

    async def test_a_request_asks_at_once(
        self, past: Past, hass: HomeAssistant
    ) -> None:
        """A user's request is made at once, despite earlier refusals."""
        simulator = past.run.simulator
        fault = simulator.faults.add(faults.FailCode(20056), INTERFACE)
        await past.until(past.run.now + 2 * HOUR, POLL)
        assert past.history_state == "waiting"
        fault.remove()
        simulator.calls.clear()
        await request(hass, past.run.account, start="2026-06-20 12:00")
        # The first hour after the requested ones must be recorded.
        await past.until(past.run.now + HOUR + 4 * POLL, POLL)
        assert {type_id for type_id, _, _ in asked(simulator)} == {38, 39, 47}


class TestGivenUp:
    """Devices that are rejected repeatedly are given up; the others are imported."""

    @pytest.fixture
    def days(self) -> int:
        """Return more than one window."""
        return 8

    @pytest.fixture
    def home(self) -> Home:
        """Return a plant of four inverters."""
        return homes.farm()

    async def test_rejected(self, past: Past, caplog: pytest.LogCaptureFixture) -> None:
        """A rejected type is requested three times in all windows together."""
        simulator = past.run.simulator
        simulator.faults.add(
            faults.FailCode(20009), INTERFACE, when=lambda body: body["devTypeId"] == 1
        )
        await until_idle(past)
        types = [type_id for type_id, _, _ in asked(simulator)]
        assert types.count(1) == 3
        assert types.count(17) == 3
        assert caplog.text.count("Skipping the history of devices of type 1") == 1

    async def test_unknown_device(
        self, past: Past, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An unknown device is rejected alone, and the other devices are imported."""
        simulator = past.run.simulator
        [plant] = simulator.home.plants
        first, *others = [each for each in plant.devices if each.type_id == 1]
        simulator.faults.add(
            faults.FailCode(20008),
            INTERFACE,
            when=lambda body: str(first.id) in body["devIds"].split(","),
        )
        await until_idle(past)
        begin = full_hour(past.run.begin).timestamp()
        rows = await past.rows()
        for device in (first, *others):
            entity = past.run.account.registered(device.id, "total_cap")
            assert entity
            early = [at for name, at in rows if name == entity.entity_id and at < begin]
            assert len(early) == (0 if device is first else 8 * 24)
        assert caplog.text.count("Skipping the history of devices of type 1") == 1


class TestLife:
    """An import across reloads and restarts of its entry."""

    @pytest.fixture
    def days(self) -> int:
        """Return more than one window."""
        return 5

    @staticmethod
    async def half(past: Past) -> None:
        """Advance until half of the calls are made."""
        while len(past.run.simulator.calls_to(INTERFACE)) < 3:
            await past.poll(MINUTE)
        assert past.history_state == "running"

    async def test_unload_in_the_middle(self, past: Past, hass: HomeAssistant) -> None:
        """The import stops with the entry, and continues with it."""
        await self.half(past)
        entry = past.run.account.entry
        assert await hass.config_entries.async_unload(entry.entry_id)
        await past.run.account.poll(MINUTE)
        assert len(past.run.simulator.calls_to(INTERFACE)) == 3
        assert await hass.config_entries.async_setup(entry.entry_id)
        await until_idle(past)
        assert len(past.run.simulator.calls_to(INTERFACE)) == 6
        assert await true_until_now(past) == []
        assert past.run.simulator.refusals == []

    async def test_unload_during_a_call(self, past: Past, hass: HomeAssistant) -> None:
        """A pending call does not delay unloading."""
        await self.half(past)
        fault = past.run.simulator.faults.add(faults.NeverAnswer(), INTERFACE)
        await past.run.account.pass_time(MINUTE)
        assert len(past.run.simulator.calls_to(INTERFACE)) == 4
        entry = past.run.account.entry
        assert await hass.config_entries.async_unload(entry.entry_id)
        assert entry.state is ConfigEntryState.NOT_LOADED
        fault.remove()
        assert await hass.config_entries.async_setup(entry.entry_id)
        await until_idle(past)
        assert await true_until_now(past) == []
        assert past.run.simulator.refusals == []

    async def test_restart_in_the_middle(self, past: Past) -> None:
        """The import continues with the remaining windows, without repeated calls."""
        await self.half(past)
        await past.run.account.kill()
        assert float(shown(past, "history_progress") or "nan") > 40
        await until_idle(past)
        assert len(past.run.simulator.calls_to(INTERFACE)) == 6
        assert await true_until_now(past) == []
        assert past.run.simulator.refusals == []

    async def test_request_survives_a_restart(self, past: Past) -> None:
        """A user's request is stored across a restart."""
        await until_idle(past)
        simulator = past.run.simulator
        simulator.calls.clear()
        await past.poll(MINUTE)
        await request(past.hass, past.run.account, start="2026-06-10 12:00")
        await past.poll(MINUTE)
        await past.run.account.kill()
        await until_idle(past)
        starts = [start for _, start, _ in asked(simulator)]
        assert min(starts) == past.run.at("2026-06-10 12:00")

    async def test_request_survives_a_reload(
        self, past: Past, hass: HomeAssistant
    ) -> None:
        """A request is kept if the entry is reloaded within the same second."""
        await until_idle(past)
        past.run.simulator.calls.clear()
        account = past.run.account
        await request(hass, account, start="2026-06-10 12:00")
        await hass.config_entries.async_reload(account.entry.entry_id)
        await until_idle(past)
        starts = [start for _, start, _ in asked(past.run.simulator)]
        assert min(starts) == past.run.at("2026-06-10 12:00")

    @pytest.mark.parametrize("days", [0])
    async def test_option_is_raised(self, past: Past, hass: HomeAssistant) -> None:
        """A larger option imports the additional days only."""
        await past.until(past.run.now + HOUR, POLL)
        await self.choose(past, 1)
        await until_idle(past)
        assert await true_until_now(past) == []
        assert len(past.run.simulator.calls_to(INTERFACE)) == 3
        past.run.simulator.calls.clear()
        await self.choose(past, 1)
        await self.choose(past, 0)
        await past.poll(POLL)
        assert past.run.simulator.calls_to(INTERFACE) == []

    @staticmethod
    async def choose(past: Past, days: int) -> None:
        """Choose the number of days to import."""
        await past.run.account.set_option("history", days)

    @pytest.mark.parametrize("days", [1])
    async def test_a_device_that_is_new(self, past: Past, hass: HomeAssistant) -> None:
        """The history of a new device is imported; other devices are unchanged."""
        simulator = past.run.simulator
        [plant] = simulator.home.plants
        await until_idle(past)
        assert [type_id for type_id, _, _ in asked(simulator)] == [38, 39]
        plant.devices.append(homes.family().plants[0].devices[3])
        get_instance(hass).entity_filter = None
        seen = past.run.now
        simulator.calls.clear()
        await hass.services.async_call(
            DOMAIN,
            "refresh_inventory",
            {"config_entry_id": past.run.account.entry.entry_id},
            blocking=True,
        )
        await until_idle(past)
        [(type_id, start, _)] = asked(simulator)
        assert type_id == 47
        assert start == full_hour(seen) - DAY
        account = past.run.account
        entity = account.registered(METER, "active_cap")
        assert entity
        await past.poll(POLL)
        hours = {
            at for entity_id, at in await past.rows() if entity_id == entity.entity_id
        }
        assert len([at for at in hours if at < full_hour(seen).timestamp()]) == 24

    @pytest.fixture
    def home(self, request: pytest.FixtureRequest) -> Home:
        """Return the family home; one test adds its meter later."""
        home = homes.family()
        if request.node.name.startswith("test_a_device_that_is_new"):
            del home.plants[0].devices[3]
        return home


class TestQuota:
    """A flat, whose quota of 25 calls a day is soon used up."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a flat with one inverter."""
        return homes.apartment()

    @pytest.fixture
    def days(self) -> int:
        """Return more days than the calls of one day cover."""
        return 80

    async def test_gaps_go_first(self, past: Past) -> None:
        """Gaps are filled before older history; live polling is not delayed."""
        without_reports(past)
        simulator = past.run.simulator
        [_, inverter] = simulator.home.devices()[0]
        while past.history_state == "running":
            await past.poll(MINUTE)
        assert past.history_state == "waiting"
        assert len(simulator.calls_to(INTERFACE)) == 24
        back = past.run.now + HOUR
        simulator.interrupt(inverter.id, lambda at: "nulls" if at < back else None)
        await past.until(back + timedelta(minutes=75), POLL)
        assert len(simulator.calls_to(INTERFACE)) == 25
        _, start, end = asked(simulator)[-1]
        assert start >= past.run.begin - HOUR
        assert end > back
        assert past.history_state == "waiting"
        assert simulator.refusals == []
