"""Run Home Assistant with the integration and a simulated FusionSolar account."""

import argparse
import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, time, timedelta
import fcntl
from itertools import count
import math
from pathlib import Path
import sys
from time import monotonic
from zoneinfo import ZoneInfo

from scripts.dashboard import dashboard
from scripts.energy import set_up, sources, statistic_ids, totals
from scripts.home_assistant import (
    PASSWORD,
    ROOT,
    SETTINGS,
    USERNAME,
    Device,
    HomeAssistant,
    HomeAssistantError,
    free_port,
    stop,
    until,
    until_stopped,
)
from tests.simulator import Home, homes

DEMOS = ROOT / ".cache" / "demo"
SIMULATED_USERNAME = "demo_api"
SIMULATED_PASSWORD = "Simulated-1"
HISTORY_DAYS = 30
IMPORT_TIMEOUT = 600
ALARMS_TIMEOUT = 90


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        allow_abbrev=False,
        description=__doc__,
        epilog="Other arguments go to the simulator: python -m tests.simulator --help",
    )
    parser.add_argument(
        "--home",
        choices=sorted(homes.HOMES),
        default="family",
        help="the simulated home",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8123,
        help="port of Home Assistant, or the next free one",
    )
    parser.add_argument(
        "--days",
        type=int,
        default=HISTORY_DAYS,
        help="days of history to import (default: %(default)s)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="check the energies of yesterday, and stop",
    )
    return parser.parse_known_args()


@contextmanager
def reserve(port: int) -> Iterator[tuple[int, Path]]:
    """Reserve a free port, from a number on, and the folder of its configuration.

    Another demo may run, or start at the same time.
    """
    for each in count(port):
        folder = DEMOS / str(each)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if free_port(each) == each:
                yield each, folder / "config"
                return


@asynccontextmanager
async def simulator(home: str, *arguments: str) -> AsyncIterator[str]:
    """Run the simulator, and yield its URL."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.simulator"),
        *("--home", home, "--port", str(port), *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await until("simulator", lambda: _listens(process, port), 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        await stop(process)


async def _listens(process: Process, port: int) -> bool | None:
    if process.returncode is not None:
        raise HomeAssistantError("The simulator ended")
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return None
    writer.close()
    return True


async def add_account(
    home_assistant: HomeAssistant, host: str, title: str, days: int = 0
) -> str:
    """Add the simulated account with some days of history, and its dashboards.

    Return the path of the first dashboard.
    """
    entry_id = await home_assistant.add_integration(
        host=host,
        username=SIMULATED_USERNAME,
        password=SIMULATED_PASSWORD,
        history=days,
    )
    await set_up(home_assistant, entry_id)

    async def with_alarms() -> list[Device] | None:
        devices = await home_assistant.devices()
        is_read = any("alarm" in device.entities for device in devices)
        return devices if is_read else None

    devices = await until("alarms", with_alarms, ALARMS_TIMEOUT)
    return await home_assistant.create_dashboard(title, dashboard(devices))


async def wait_for_history(home_assistant: HomeAssistant) -> None:
    """Wait until the history is imported, except for the hours of today.

    Their report is complete only after them.
    """
    devices = await home_assistant.devices()
    [days_left] = [
        device.entities["history_left"]
        for device in devices
        if "history_left" in device.entities
    ]

    async def is_imported() -> bool | None:
        return float(await home_assistant.state(days_left) or "nan") < 1 or None

    async def is_written() -> bool | None:
        recorder = await home_assistant.command("recorder/info")
        return recorder["backlog"] == 0 or None

    await until("history", is_imported, IMPORT_TIMEOUT)
    await until("recorder", is_written, IMPORT_TIMEOUT)


async def check_energy(home_assistant: HomeAssistant, home: Home) -> None:
    """Check the totals of yesterday in the Energy dashboard."""
    chosen = await sources(home_assistant)
    zone = ZoneInfo(SETTINGS["time_zone"])
    today = datetime.combine(datetime.now(zone), time(), tzinfo=zone)
    yesterday = today - timedelta(days=1)
    recorded = await home_assistant.changes(statistic_ids(chosen), yesterday, today)
    wrong = []
    for total in totals(chosen, recorded, home, yesterday, today):
        print(f"  {total.name + ':':<22}{total.recorded:.2f} of {total.true:.2f} kWh")
        if not math.isclose(total.recorded, total.true, rel_tol=0.01, abs_tol=0.02):
            wrong.append(total.name)
    if wrong:
        raise HomeAssistantError(f"Wrong energies of yesterday: {', '.join(wrong)}")


async def _run() -> None:
    options, arguments = _arguments()
    with reserve(options.port) as (port, config):
        print(f"Starting the simulator ({options.home})", flush=True)
        async with simulator(
            options.home, "--no-history-quota", "--alarm", *arguments
        ) as host:
            print("Starting Home Assistant", flush=True)
            async with HomeAssistant(config, port, "scripts.eager") as home_assistant:
                await _demonstrate(home_assistant, host, options)


async def _demonstrate(
    home_assistant: HomeAssistant, host: str, options: argparse.Namespace
) -> None:
    """Add the account, print how to log in, and run until the end."""
    print("Adding the integration", flush=True)
    title = f"{options.home.capitalize()} home"
    path = await add_account(home_assistant, host, title, options.days)
    facts = {
        "Home Assistant": home_assistant.url + path,
        "Energy dashboard": home_assistant.url + "/energy",
        "User": USERNAME,
        "Password": PASSWORD,
        "Log": str(home_assistant.log.relative_to(ROOT)),
        "Simulator": host,
        "Simulator's user": SIMULATED_USERNAME,
        "Simulator's password": SIMULATED_PASSWORD,
    }
    for name, value in facts.items():
        print(f"  {name + ':':<22}{value}", flush=True)
    print(
        f"Importing {options.days} days of history, for which the simulator has no "
        "quota; a real server allows about 25 days a day",
        flush=True,
    )
    begin = monotonic()
    await wait_for_history(home_assistant)
    print(f"Imported after {monotonic() - begin:.0f} s", flush=True)
    if options.check:
        await check_energy(home_assistant, homes.HOMES[options.home]())
    else:
        print("Press Ctrl-C to stop", flush=True)
        await asyncio.Event().wait()


async def _main() -> None:
    try:
        await until_stopped(_run())
    except asyncio.CancelledError:
        print("Stopped", file=sys.stderr)
    except HomeAssistantError as err:
        sys.exit(str(err))


if __name__ == "__main__":
    asyncio.run(_main())
