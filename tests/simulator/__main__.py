"""Run the simulator alone: `python -m tests.simulator --help`."""

import argparse
import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from ipaddress import ip_address
import signal
import sys
from typing import Any

from . import homes
from .chaos import Chaos
from .clock import Clock, RealClock, SetClock, SpedClock
from .faults import MOVED
from .plants import Home
from .server import Quotas, Simulator


def _loopback(host: str) -> str:
    if not ip_address(host).is_loopback:
        raise argparse.ArgumentTypeError(f"{host} is not a loopback address")
    return host


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator",
        description="Simulate Huawei's SmartPVMS Northbound API with its plants.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--home", choices=sorted(homes.HOMES), default="family")
    parser.add_argument("--plants", type=int, default=10, help="plants of the fleet")
    parser.add_argument("--devices", type=int, default=40, help="devices of the fleet")
    parser.add_argument("--time-zone", help="zone of the plants, if not the home's own")
    parser.add_argument("--seed", type=int, default=1, help="weather and loads")
    parser.add_argument("--host", type=_loopback, default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--user", default="demo_api")
    parser.add_argument("--password", default="Simulated-1")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="simulated per real second"
    )
    parser.add_argument("--start", type=_moment, help="simulated start, ISO 8601")
    parser.add_argument(
        "--old-account",
        action="store_true",
        help="an account with getStationList instead of stations",
    )
    parser.add_argument(
        "--fixed-session",
        action="store_true",
        help="end a session after 30 minutes even if it is used",
    )
    parser.add_argument(
        "--chaos",
        action="store_true",
        help="add faults of counters at realistic rates",
    )
    parser.add_argument(
        "--alarm", action="store_true", help="raise an alarm of an inverter"
    )
    parser.add_argument(
        "--device-history",
        action="store_true",
        help="device/history instead of getDevHistoryKpi",
    )
    move = parser.add_argument_group("a server that moves to another port")
    move.add_argument("--move", choices=sorted(MOVED), help="answers of the old server")
    move.add_argument(
        "--move-after", type=float, default=900, help="seconds until it moves"
    )
    move.add_argument("--new-port", type=int, default=0, help="0: any free port")
    move.add_argument("--new-codes", action="store_true", help="other plant codes")
    move.add_argument("--new-ids", action="store_true", help="other device ids")
    quotas = parser.add_mutually_exclusive_group()
    quotas.add_argument(
        "--no-quotas", action="store_true", help="never refuse calls (407)"
    )
    quotas.add_argument(
        "--no-history-quota", action="store_true", help="unlimited history calls"
    )
    quotas.add_argument(
        "--old-quotas", action="store_true", help="one call a minute per interface"
    )
    return parser.parse_args()


def _home(arguments: argparse.Namespace) -> Home:
    options: dict[str, Any] = {"seed": arguments.seed}
    if arguments.time_zone:
        options["time_zone"] = arguments.time_zone
    if arguments.home == "fleet":
        options |= {"plants": arguments.plants, "devices": arguments.devices}
    return homes.HOMES[arguments.home](**options)


def _clock(arguments: argparse.Namespace) -> Clock:
    if arguments.speed == 0:
        return SetClock(arguments.start or datetime.now(UTC))
    if arguments.speed == 1 and arguments.start is None:
        return RealClock()
    return SpedClock(arguments.speed, arguments.start)


def _quotas(arguments: argparse.Namespace) -> Quotas:
    if arguments.no_history_quota:
        return "all but history"
    if arguments.old_quotas:
        return "old"
    return not arguments.no_quotas


def _raise_alarm(simulator: Simulator) -> None:
    """Raise an alarm of the first device that has panels, or of the first device."""
    devices = [device for _, device in simulator.home.devices()]
    with_panels = [device for device in devices if device.mppts]
    simulator.alarms.start((with_panels or devices)[0])


def _simulator(arguments: argparse.Namespace, home: Home, clock: Clock) -> Simulator:
    simulator = Simulator(
        home,
        clock,
        user_name=arguments.user,
        system_code=arguments.password,
        quotas=_quotas(arguments),
        session="fixed" if arguments.fixed_session else "sliding",
        account="old" if arguments.old_account else "new",
    )
    if arguments.device_history:
        simulator.grant_permission("device/history")
        simulator.withdraw_permission("getDevHistoryKpi")
    if arguments.chaos:
        Chaos(simulator, arguments.seed)
    if arguments.alarm:
        _raise_alarm(simulator)
    return simulator


async def _run(arguments: argparse.Namespace) -> None:
    home, clock = _home(arguments), _clock(arguments)
    simulator = _simulator(arguments, home, clock)
    new_home = homes.transferred(home, codes=arguments.new_codes, ids=arguments.new_ids)
    other = _simulator(arguments, new_home, clock)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as servers:
        url = await servers.enter_async_context(
            simulator.serve(arguments.port, arguments.host)
        )
        print(f"URL:      {url}")
        print(f"User:     {arguments.user}")
        print(f"Password: {arguments.password}")
        if arguments.move:
            new_url = await servers.enter_async_context(
                other.serve(arguments.new_port, arguments.host)
            )
            print(f"New URL:  {new_url}")
            moved = MOVED[arguments.move](new_url)
            loop.call_later(arguments.move_after, simulator.faults.add, moved)
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_run(_arguments()))
