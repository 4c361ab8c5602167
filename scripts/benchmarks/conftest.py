"""Show the tables that tests of any process filled, a row each."""

from collections import defaultdict
import os
from typing import Any

import pytest

from homeassistant.core import HomeAssistant

from .fleet import Fleet

# Plants and devices.
SIZES = os.environ.get("BENCHMARK_SIZES", "1/4 10/100 100/1000 500/5000").split()


@pytest.fixture
def hass_config_dir(hass_tmp_config_dir: str) -> str:
    """Let Home Assistant write its files."""
    return hass_tmp_config_dir


@pytest.fixture
def hass_storage() -> dict[str, Any]:
    """Mock no storage: what it takes to write is a part of what is measured."""
    return {}


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> str:
    """Return how many plants and devices a fleet has."""
    size: str = request.param
    return size


@pytest.fixture
async def fleet(
    size: str,
    hass: HomeAssistant,
    enable_custom_integrations: None,
    socket_enabled: None,
) -> Fleet:
    """Return an account that has been added."""
    plants, devices = map(int, size.split("/"))
    fleet = Fleet(hass, plants, devices)
    await fleet.add()
    return fleet


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the recorded rows, and the seconds that each one took."""
    tables = defaultdict(list)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "row":
                    heading, row = value
                    tables[heading].append((row, report.duration))
    for heading, rows in tables.items():
        terminalreporter.write_line(f"\n{'seconds':>7}  {heading}")
        for row, seconds in sorted(rows):
            terminalreporter.write_line(f"{seconds:>7.0f}  {row}")
