"""Run Home Assistant with the integration and a simulated FusionSolar account."""

import argparse
import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import signal
import sys

from scripts.dashboard import dashboard
from scripts.home_assistant import (
    PASSWORD,
    ROOT,
    USERNAME,
    HomeAssistant,
    HomeAssistantError,
    free_port,
    stop,
    until,
)

CONFIG = ROOT / ".cache" / "demo" / "config"
SIMULATED_USERNAME = "demo_api"
SIMULATED_PASSWORD = "Simulated-1"


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        allow_abbrev=False,
        description=__doc__,
        epilog="Other arguments go to the simulator: python -m tests.simulator --help",
    )
    parser.add_argument("--home", default="family", help="which home to simulate")
    parser.add_argument("--port", type=int, default=8123, help="of Home Assistant")
    parser.add_argument(
        "--check", action="store_true", help="end once the dashboard is there"
    )
    return parser.parse_known_args()


@asynccontextmanager
async def simulator(home: str, *arguments: str) -> AsyncIterator[str]:
    """Run the simulator, and yield its address."""
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


async def add_account(home_assistant: HomeAssistant, host: str, title: str) -> str:
    """Add the simulated account and its dashboard, and return the latter's path."""
    await home_assistant.add_integration(
        host=host, username=SIMULATED_USERNAME, password=SIMULATED_PASSWORD
    )
    devices = await home_assistant.devices()
    return await home_assistant.create_dashboard(title, dashboard(title, devices))


async def _run() -> None:
    options, arguments = _arguments()
    print(f"Starting the simulator ({options.home})", flush=True)
    async with simulator(options.home, *arguments) as host:
        print("Starting Home Assistant", flush=True)
        async with HomeAssistant(CONFIG, free_port(options.port)) as home_assistant:
            print("Adding the integration", flush=True)
            title = f"{options.home.capitalize()} home"
            path = await add_account(home_assistant, host, title)
            facts = {
                "Home Assistant": home_assistant.url + path,
                "User": USERNAME,
                "Password": PASSWORD,
                "Log": str(home_assistant.log.relative_to(ROOT)),
                "Simulator": host,
                "Simulator's user": SIMULATED_USERNAME,
                "Simulator's password": SIMULATED_PASSWORD,
            }
            for name, value in facts.items():
                print(f"  {name + ':':<22}{value}", flush=True)
            if not options.check:
                print("Press Ctrl-C to stop", flush=True)
                await asyncio.Event().wait()


async def _main() -> None:
    task = asyncio.ensure_future(_run())
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        print("Stopped", file=sys.stderr)
    except HomeAssistantError as err:
        sys.exit(str(err))


if __name__ == "__main__":
    asyncio.run(_main())
