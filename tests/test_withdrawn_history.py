"""Tests of the import of history if the server withdraws `getDevHistoryKpi`."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
import logging
from typing import Final

from freezegun.api import FrozenDateTimeFactory
import pytest

from homeassistant.core import HomeAssistant
from tests.simulator import Simulator, faults
from tests.simulator.plants import Home

from . import history, statistics, test_history
from .conftest import POLL
from .history import HOUR, Past
from .test_history_requests import issues, request, true_until_now, until_idle

recorder_config = statistics.recorder_config
past = history.past
start = history.start
days = history.days

OLD: Final = "getDevHistoryKpi"
NEW: Final = "device/history"
DAY: Final = timedelta(days=1)
DEVICES: Final = 3

type Withdraw = Callable[[Simulator], object]

WITHDRAWALS: Final[dict[str, Withdraw]] = {
    "permission": lambda simulator: simulator.withdraw_permission(OLD),
    "unauthorized": lambda simulator: simulator.faults.add(faults.HtmlPage(401), OLD),
    "missing": lambda simulator: simulator.faults.add(faults.HtmlPage(404), OLD),
    "gone": lambda simulator: simulator.faults.add(faults.HttpStatus(410), OLD),
    "every type": lambda simulator: simulator.faults.add(faults.FailCode(20013), OLD),
}


@pytest.fixture
def withdrawal() -> str | None:
    """Return how the interface is withdrawn before the account is added."""
    return "permission"


@pytest.fixture
async def simulator(
    home: Home,
    start: str,
    withdrawal: str | None,
    socket_enabled: None,
    freezer: FrozenDateTimeFactory,
) -> AsyncIterator[Simulator]:
    """Serve a home with the new interface, and maybe without the old one."""
    freezer.move_to(start)
    simulator = Simulator(home)
    simulator.grant_permission(NEW)
    if withdrawal is not None:
        WITHDRAWALS[withdrawal](simulator)
    async with simulator.serve():
        yield simulator


# The tests of history pass with the other interface.
test_first_set_up = test_history.test_first_set_up
test_off_over_midnight = test_history.test_off_over_midnight
test_server_is_down = test_history.test_server_is_down
test_device_is_disconnected_for_a_day = (
    test_history.test_device_is_disconnected_for_a_day
)


def calls(past: Past, interface: str) -> int:
    """Return the number of calls to an interface."""
    return len(past.run.simulator.calls_to(interface))


class TestWeek:
    """The import of a week."""

    @pytest.fixture
    def days(self) -> int:
        """Return more than two windows."""
        return 7

    @pytest.mark.parametrize("withdrawal", WITHDRAWALS)
    async def test_at_once(
        self, past: Past, hass: HomeAssistant, withdrawal: str
    ) -> None:
        """The other interface is used, with few more calls than there are days."""
        await until_idle(past)
        assert calls(past, OLD) == (2 if withdrawal == "unauthorized" else 1)
        least = DEVICES * 7
        used = calls(past, NEW) / least
        logging.getLogger(__name__).info("%.2f calls per device-day, least 1", used)
        assert least <= calls(past, NEW) <= 1.2 * least
        assert issues(hass) == []
        assert past.run.simulator.refusals == []
        assert await true_until_now(past) == []

    @pytest.mark.parametrize("withdrawal", [None])
    @pytest.mark.parametrize("way", WITHDRAWALS)
    async def test_in_the_middle(
        self, past: Past, hass: HomeAssistant, way: str
    ) -> None:
        """An import goes on with the other interface, from where it was."""
        while calls(past, OLD) < 4:
            await past.poll(POLL)
        WITHDRAWALS[way](past.run.simulator)
        done = float(past.run.account.value(_entry(past), "history_progress") or 0)
        assert done > 25
        await until_idle(past)
        assert calls(past, OLD) <= 6
        assert calls(past, NEW) < DEVICES * 7
        assert issues(hass) == []
        assert await true_until_now(past) == []


@pytest.mark.parametrize("withdrawal", [None])
async def test_later(past: Past, hass: HomeAssistant) -> None:
    """The old interface is used as long as it is there."""
    await until_idle(past)
    assert calls(past, NEW) == 0
    simulator = past.run.simulator
    simulator.withdraw_permission(OLD)
    await past.off("2026-06-21 18:10")
    await past.until("2026-06-21 20:00:30", POLL)
    assert calls(past, NEW) == DEVICES
    assert await past.problems(past.begin, past.run.at("2026-06-21 20:00")) == []


class TestRemembered:
    """The interface that works is remembered."""

    @pytest.fixture
    async def imported(self, past: Past) -> Past:
        """Return a run that has used the other interface."""
        await until_idle(past)
        assert calls(past, NEW)
        return past

    @staticmethod
    async def off(past: Past, off: timedelta) -> tuple[int, int]:
        """Stop Home Assistant for a time, and return the calls that follow."""
        account = past.run.account
        past.run.simulator.calls.clear()
        # Not `restart`, which stops the recorder.
        await account.kill(off)
        for _ in range(18):
            await past.run.poll()
        return calls(past, OLD), calls(past, NEW)

    async def test_for_a_week(self, imported: Past) -> None:
        """The old interface is called again after a week, also after restarts."""
        old, new = await self.off(imported, DAY)
        assert old == 0
        assert new > 0
        old, new = await self.off(imported, 7 * DAY)
        assert old == 1
        assert new > 0
        old, new = await self.off(imported, DAY)
        assert old == 0
        assert new > 0

    async def test_the_old_one_is_back(self, imported: Past) -> None:
        """An old interface that is there again is used again."""
        imported.run.simulator.grant_permission(OLD)
        old, new = await self.off(imported, 7 * DAY)
        assert old > 0
        assert new == 0

    async def test_the_new_one_is_withdrawn(self, imported: Past) -> None:
        """The old interface is used if the new one is refused."""
        imported.run.simulator.grant_permission(OLD)
        imported.run.simulator.withdraw_permission(NEW)
        old, new = await self.off(imported, DAY)
        assert old > 0
        assert new == 1

    async def test_a_type_that_the_new_one_lacks(self, imported: Past) -> None:
        """A type without history leaves the interface in use."""
        simulator = imported.run.simulator
        simulator.faults.add(
            faults.FailCode(20013), NEW, when=lambda body: body["devTypeId"] == 39
        )
        simulator.calls.clear()
        await imported.off("2026-06-21 20:10")
        await imported.until(imported.run.now + 3 * HOUR, POLL)
        assert calls(imported, OLD) == 0
        types = [call.body["devTypeId"] for call in simulator.calls_to(NEW)]
        assert types.count(39) == 1
        assert types.count(38) == types.count(47) == 1


@pytest.mark.parametrize("withdrawal", WITHDRAWALS)
async def test_both_are_refused(
    past: Past, hass: HomeAssistant, withdrawal: str
) -> None:
    """Without both, few calls are made until one is granted."""
    simulator = past.run.simulator
    for interface in ("getKpiStationHour", NEW):
        simulator.withdraw_permission(interface)
    await past.until(past.run.now + 6 * HOUR, POLL)
    assert past.history_state != "idle"
    assert calls(past, OLD) + calls(past, NEW) <= 22
    is_permission = withdrawal in ("permission", "unauthorized")
    assert issues(hass) == ["no_permission_device_history"] * is_permission
    simulator.grant_permission(NEW)
    await past.until(past.run.now + 10 * HOUR, POLL)
    assert past.history_state == "idle"
    assert issues(hass) == []


async def test_device_without_a_name(past: Past) -> None:
    """A device without the name of the new interface waits for the next list."""
    simulator = past.run.simulator

    def without_name(payload: faults.Payload) -> faults.Payload:
        rows = [row | {"devDn": None} for row in payload["data"]]
        return payload | {"data": rows}

    fault = simulator.faults.add(faults.Rewrite(without_name), "getDevList")
    await hass_refresh(past)
    simulator.calls.clear()
    start = (past.run.now - 3 * HOUR).isoformat()
    await request(past.hass, past.run.account, start=start)
    await past.until(past.run.now + HOUR, POLL)
    assert past.history_state != "idle"
    assert calls(past, NEW) == 0
    fault.remove()
    await hass_refresh(past)
    await past.until(past.run.now + 8 * HOUR, POLL)
    assert past.history_state == "idle"
    assert calls(past, NEW)


async def hass_refresh(past: Past) -> None:
    """List plants and devices again."""
    await past.run.account.entry.runtime_data.inventory.async_refresh()
    await past.hass.async_block_till_done()


def _entry(past: Past) -> str:
    return past.run.account.entry.entry_id
