"""Tests of maintenance and of the sensor of the service."""

from datetime import timedelta
import logging
from typing import Final

import pytest

from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.util import dt as dt_util
from tests.simulator import Simulator, faults

from . import history, statistics
from .conftest import POLL, Account
from .history import HOUR, Past, full_hour

recorder_config = statistics.recorder_config
past = history.past
start = history.start
days = history.days
simulator = history.simulator

INVERTER: Final = 1000000035436842
QUARTER: Final = timedelta(minutes=15, seconds=2)

FAULTS: Final[dict[str, faults.Fault]] = {
    "403": faults.Gateway403(),
    "429": faults.HttpStatus(429),
    "503": faults.HtmlPage(503),
    "20004": faults.FailCode(20004),
    "20200": faults.FailCode(20200),
    "web page": faults.HtmlPage(),
    "no connection": faults.DropConnection(),
}


def service(account: Account) -> str | None:
    """Return the state of the service."""
    return account.value(account.entry.entry_id, "service")


def since(account: Account) -> object:
    """Return since when the state lasts."""
    state = account.state(account.entry.entry_id, "service")
    assert state is not None
    return state.attributes["since"]


def log(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the log of the integration without that of the import."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("custom_components.smartpvms")
        and record.levelno >= logging.INFO
        and "device history" not in record.getMessage()
    ]


@pytest.mark.parametrize("fault", FAULTS)
async def test_states(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The service is busy, then in maintenance, and then fine again."""
    await added.pass_time(timedelta(minutes=10))
    assert service(added) == "ok"
    caplog.clear()
    handle = simulator.faults.add(FAULTS[fault])
    begin = dt_util.utcnow()
    await added.pass_time(timedelta(minutes=20))
    assert service(added) == "busy"
    first = since(added)
    assert first is not None
    assert timedelta() < first - begin < timedelta(minutes=6)  # type: ignore[operator]
    await added.pass_time(timedelta(minutes=25))
    assert service(added) == "maintenance"
    assert since(added) == first
    assert len(log(caplog)) == 1
    handle.remove()
    end = dt_util.utcnow()
    await added.pass_time(timedelta(minutes=17))
    assert service(added) == "ok"
    assert since(added) >= end.replace(microsecond=0)  # type: ignore[operator]
    assert added.value(INVERTER, "active_power") != STATE_UNAVAILABLE
    assert len(log(caplog)) == 2
    assert [*ir.async_get(hass).issues] == []


async def test_login_needed(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A refused password is another state than a server that does not answer."""
    begin = dt_util.utcnow()
    simulator.change_password("Changed-2")
    simulator.expire_token()
    await added.pass_time(timedelta(minutes=6))
    assert service(added) == "login_needed"
    assert begin < since(added)  # type: ignore[operator]


async def test_one_type_fails(
    added: Account, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """If a part is answered, the service is fine, and the log names the other part."""
    caplog.clear()
    simulator.faults.add(
        faults.FailCode(20004),
        "getDevRealKpi",
        when=lambda body: body["devTypeId"] == 39,
    )
    await added.pass_time(timedelta(hours=1))
    assert service(added) == "ok"
    [line] = log(caplog)
    assert "devices of type 39" in line


async def test_only_alarms_fail(
    added: Account, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure that lasts is logged, although the service is fine."""
    caplog.clear()
    fault = simulator.faults.add(faults.FailCode(20004), "getAlarmList")
    await added.pass_time(timedelta(hours=1))
    assert service(added) == "ok"
    [line] = log(caplog)
    assert "alarms" in line
    fault.remove()
    await added.pass_time(timedelta(minutes=31))
    assert len(log(caplog)) == 2


async def test_over_midnight(past: Past, caplog: pytest.LogCaptureFixture) -> None:
    """Maintenance of 26 hours: two log lines, the right state, and no wrong energy."""
    account, simulator = past.run.account, past.run.simulator
    await past.until("2026-06-21 13:20", QUARTER)
    caplog.clear()
    simulator.faults.add(faults.HtmlPage(503))
    begin = past.run.now
    gone = full_hour(begin)
    await past.run.until("2026-06-21 14:20", QUARTER)
    assert service(account) == "maintenance"
    first = since(account)
    assert timedelta() <= first - begin <= QUARTER  # type: ignore[operator]
    await past.run.until("2026-06-22 15:20", QUARTER)
    assert service(account) == "maintenance"
    assert since(account) == first
    assert len(log(caplog)) == 1
    simulator.faults.clear()
    end = past.run.now
    past.record_past(gone + HOUR, past.run.at("2026-06-22 15:00"))
    await past.until("2026-06-22 18:00:30", POLL)
    assert service(account) == "ok"
    assert since(account) >= end.replace(microsecond=0)  # type: ignore[operator]
    assert len(log(caplog)) == 2
    assert await past.problems(past.begin, past.run.at("2026-06-22 18:00")) == []
