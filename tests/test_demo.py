"""Tests of the demo: its history, and two at once."""

from collections.abc import AsyncIterator
from pathlib import Path
import socket

from freezegun.api import FrozenDateTimeFactory
import pytest

from scripts import demo
from scripts.eager import hasten
from scripts.home_assistant import free_port
from tests.simulator import Simulator, homes
from tests.simulator.plants import Home

from . import history, statistics
from .conftest import POLL
from .history import Past

recorder_config = statistics.recorder_config
past = history.past


@pytest.fixture
def home() -> Home:
    """Return the home of the demo."""
    return homes.family()


@pytest.fixture
def days() -> int:
    """Return the number of days to import."""
    return 2


@pytest.fixture
def start(minute: int) -> str:
    """Return when the account is added."""
    return f"2026-06-21 10:{minute:02}:12+02:00"


@pytest.fixture
async def simulator(
    home: Home,
    start: str,
    socket_enabled: None,
    freezer: FrozenDateTimeFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Simulator]:
    """Serve the home with unlimited history."""
    freezer.move_to(start)
    hasten(monkeypatch.setattr)
    simulator = Simulator(home, quotas="all but history")
    async with simulator.serve():
        yield simulator


@pytest.mark.parametrize("minute", [20, 53, 57])
async def test_history(past: Past) -> None:
    """The history includes the whole hour of the set-up."""
    await past.until("2026-06-21 12:00:30", POLL)
    assert await past.problems(past.begin, past.run.at("2026-06-21 12:00")) == []


@pytest.mark.usefixtures("socket_enabled")
def test_two_demos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each demo has its own port and configuration."""
    monkeypatch.setattr(demo, "DEMOS", tmp_path)
    port = free_port()
    with demo.reserve(port) as first:
        with demo.reserve(port) as second:
            assert not {*first} & {*second}
        with demo.reserve(port) as again:
            assert again == second


@pytest.mark.usefixtures("socket_enabled")
def test_port_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo takes the next port if another program has the first."""
    monkeypatch.setattr(demo, "DEMOS", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        used = server.getsockname()[1]
        with demo.reserve(used) as (port, config):
            assert port > used
            assert str(port) in config.parts
