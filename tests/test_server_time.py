"""Tests of responses with a wrong time."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import pytest

from tests.simulator import Simulator, faults

from .conftest import Account

INVERTER: Final = 1000000035436842
DAY: Final = 86_400_000
INTERFACES: Final = ("getStationRealKpi", "getDevRealKpi")


def reports(time: Callable[[int], object]) -> faults.Rewrite:
    """Return a fault that changes the time of responses."""

    def rewrite(payload: faults.Payload) -> faults.Payload:
        params = payload["params"]
        return payload | {
            "params": params | {"currentTime": time(params["currentTime"])}
        }

    return faults.Rewrite(rewrite)


FAULTS: Final[dict[str, Callable[[int], object]]] = {
    "a day ahead": lambda time: time + DAY,
    "a month ahead": lambda time: time + 32 * DAY,
    "a day behind": lambda time: time - DAY,
    "microseconds": lambda time: time * 1000,
    "year 9999": lambda time: 253402200000000,
    "year 2099": lambda time: 4102444799000,
    "zero": lambda time: 0,
    "absent": lambda time: None,
}


def shown(account: Account) -> tuple[list[object], float]:
    """Return the starts of the inverter's day and the plant's month, and the yield."""
    code = next(iter(account.entry.runtime_data.inventory.data.plants))
    states = account.state(INVERTER, "day_cap"), account.state(code, "month_power")
    assert states[0] is not None
    begins = [state and state.attributes["last_reset"] for state in states]
    return begins, float(states[0].state)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("polls", [1, 36])
async def test_false_time(
    added: Account,
    simulator: Simulator,
    fault: str,
    polls: int,
) -> None:
    """Days and months start on time during a wrong time and after it."""
    await added.poll()
    begins, before = shown(added)
    handles = [
        simulator.faults.add(reports(FAULTS[fault]), each) for each in INTERFACES
    ]
    for _ in range(polls):
        await added.poll()
    assert shown(added)[0] == begins
    for each in handles:
        each.remove()
    await added.kill()
    await added.poll()
    await added.poll()
    day_cap = simulator.device_items(INVERTER)["day_cap"]
    after, counted = shown(added)
    assert after == begins
    assert before < counted == pytest.approx(day_cap, abs=0.01)


@pytest.mark.parametrize("fault", FAULTS)
async def test_first_time_is_false(
    account: Account, simulator: Simulator, fault: str
) -> None:
    """The next response corrects it."""
    handles = [
        simulator.faults.add(reports(FAULTS[fault]), each) for each in INTERFACES
    ]
    await account.add()
    for each in handles:
        each.remove()
    await account.poll()
    begins, _ = shown(account)
    assert begins[0] == "2026-06-20T22:00:00+00:00"
    reading = account.entry.runtime_data.real_time.data[INVERTER]
    assert abs(reading.server_time - reading.received) < timedelta(seconds=1)
