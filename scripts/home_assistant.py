"""A real Home Assistant with a new configuration, on loopback only."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import datetime
import json
import math
from pathlib import Path
import shutil
import signal
import socket
import sys
import time
from typing import Any, NamedTuple, Self

import aiohttp

ROOT = Path(__file__).parent.parent
DOMAIN = "smartpvms"
USERNAME = "demo"
PASSWORD = "demo"
START_TIMEOUT = 180
STOP_TIMEOUT = 30

# Without default_config, which requests weather, radio and more from the internet.
CONFIGURATION = f"""\
automation: !include automations.yaml
config:
energy:
frontend:
history:
homeassistant:
input_boolean:
  boiler:
logbook:
recorder:
logger:
  default: warning
  logs:
    custom_components.{DOMAIN}: debug
template:
  switch:
    name: Boiler
    state: "{{{{ is_state('input_boolean.boiler', 'on') }}}}"
    turn_on:
      action: input_boolean.turn_on
      target: &boiler
        entity_id: input_boolean.boiler
    turn_off:
      action: input_boolean.turn_off
      target: *boiler
"""

SETTINGS = {
    "country": "DE",
    "currency": "EUR",
    "language": "en",
    "location_name": "Home",
    "time_zone": "Europe/Berlin",
    "unit_system": "metric",
}


class Device(NamedTuple):
    """A device or plant, with its enabled entities' IDs by data item and by name."""

    id: str
    name: str
    entities: dict[str, str]
    named: dict[str, str]


class HomeAssistantError(Exception):
    """Home Assistant did not perform a command."""


def free_port(preferred: int = 0) -> int:
    """Return the preferred port, or another one if it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return free_port()
        port: int = probe.getsockname()[1]
        return port


async def until[T](
    what: str, check: Callable[[], Awaitable[T | None]], seconds: float
) -> T:
    """Repeat a request until it has a result."""
    deadline = time.monotonic() + seconds
    while (answer := await check()) is None:
        if time.monotonic() > deadline:
            raise HomeAssistantError(f"no {what} within {seconds:.0f} s")
        await asyncio.sleep(0.25)
    return answer


async def stop(process: Process) -> None:
    """Terminate a process, and wait for its end."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def until_stopped(run: Coroutine[Any, Any, None]) -> None:
    """Run until the end, or raise `CancelledError` after a signal to stop."""
    task = asyncio.ensure_future(run)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await task


class HomeAssistant:
    """A running Home Assistant with one user."""

    def __init__(self, config: Path, port: int, module: str = "homeassistant") -> None:
        """Prepare a module to run in a folder; existing contents are deleted."""
        self.config = config
        self.log = config / "home-assistant.log"
        self.url = f"http://127.0.0.1:{port}"
        self.client_id = f"{self.url}/"
        self.tokens: dict[str, Any] = {}
        self._port = port
        self._module = module
        self._process: Process | None = None
        self._http = aiohttp.ClientSession()

    async def __aenter__(self) -> Self:
        """Start and onboard."""
        try:
            await asyncio.to_thread(self._write_configuration)
            await self.start()
            await until("answer of Home Assistant", self._is_up, START_TIMEOUT)
            await self._onboard()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self._http.close()
        if self._process:
            await stop(self._process)

    def _write_configuration(self) -> None:
        shutil.rmtree(self.config, ignore_errors=True)
        storage = self.config / ".storage"
        storage.mkdir(parents=True)
        (self.config / "configuration.yaml").write_text(CONFIGURATION)
        (self.config / "automations.yaml").write_text("[]\n")
        (self.config / "custom_components").symlink_to(ROOT / "custom_components")
        # Home Assistant may change or delete them.
        shutil.copytree(ROOT / "blueprints", self.config / "blueprints")
        # In YAML, it would be tested for five minutes and then be reverted.
        http = {
            "server_host": ["127.0.0.1"],
            "server_port": self._port,
            "cors_allowed_origins": [],
            "login_attempts_threshold": -1,
            "ip_ban_enabled": False,
            "ssl_profile": "modern_v6",
            "use_x_frame_options": True,
            "created_at": "2026-01-01T00:00:00+00:00",
            "error": None,
            "error_message": None,
        }
        files: dict[str, tuple[int, dict[str, Any]]] = {
            "http": (3, {"stable": http, "pending": None, "yaml_migration_done": True}),
            # The other steps of the wizard add integrations that need the internet.
            "onboarding": (4, {"done": ["core_config", "integration", "analytics"]}),
        }
        for key, (version, data) in files.items():
            content = {"version": version, "minor_version": 1, "key": key, "data": data}
            (storage / key).write_text(json.dumps(content))

    async def start(self) -> None:
        """Start the process, without waiting until it answers."""
        # All requirements are installed; without --skip-pip it might download more.
        command = (sys.executable, "-m", self._module, "--skip-pip")
        # A separate session, so that this process handles Ctrl-C in the terminal.
        self._process = await asyncio.create_subprocess_exec(
            *(*command, "--config", str(self.config)),
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )

    async def kill(self) -> None:
        """End the process at once, as a power failure does."""
        if self._process:
            self._process.kill()
            await self._process.wait()

    async def _is_up(self) -> bool | None:
        if self._process is None or self._process.returncode is not None:
            raise HomeAssistantError(f"Home Assistant ended, see {self.log}")
        try:
            async with self._http.get(f"{self.url}/api/onboarding") as response:
                return response.ok or None
        except aiohttp.ClientConnectionError:
            return None

    async def _onboard(self) -> None:
        user = {
            "name": USERNAME.capitalize(),
            "username": USERNAME,
            "password": PASSWORD,
            "client_id": self.client_id,
            "language": "en",
        }
        created = await self.request("POST", "/api/onboarding/users", json=user)
        login = {
            "grant_type": "authorization_code",
            "code": created["auth_code"],
            "client_id": self.client_id,
        }
        self.tokens = await self.request("POST", "/auth/token", data=login)
        await self.command("config/core/update", **SETTINGS)

    async def request(self, method: str, path: str, **body: Any) -> Any:
        """Send an HTTP request and return its JSON."""
        headers = {}
        if self.tokens:
            headers["Authorization"] = f"Bearer {self.tokens['access_token']}"
        async with self._http.request(
            method, self.url + path, headers=headers, **body
        ) as response:
            if not response.ok:
                text = await response.text()
                raise HomeAssistantError(f"{path}: {response.status} {text}")
            return await response.json()

    async def command(self, kind: str, **fields: Any) -> Any:
        """Send a WebSocket command and return its result."""
        async with self._http.ws_connect(f"{self.url}/api/websocket") as socket_:
            await socket_.receive_json()
            await socket_.send_json(
                {"type": "auth", "access_token": self.tokens["access_token"]}
            )
            await socket_.receive_json()
            await socket_.send_json({"id": 1, "type": kind, **fields})
            answer = await socket_.receive_json()
        if not answer["success"]:
            raise HomeAssistantError(f"{kind}: {answer['error']['message']}")
        return answer["result"]

    async def action(self, name: str, **data: Any) -> Any:
        """Run an action of the integration, and return its response."""
        answer = await self.command(
            "call_service",
            domain=DOMAIN,
            service=name,
            service_data=data,
            return_response=True,
        )
        return answer["response"]

    async def add_integration(self, **account: str | int) -> str:
        """Complete the config flow, and return the ID of the loaded entry."""
        flows = "/api/config/config_entries/flow"
        step = await self.request("POST", flows, json={"handler": DOMAIN})
        answers: dict[str, dict[str, str | int]] = {"user": account, "plants": {}}
        while step["type"] == "form" and not step["errors"]:
            step = await self.request(
                "POST", f"{flows}/{step['flow_id']}", json=answers[step["step_id"]]
            )
        if step["type"] != "create_entry":
            raise HomeAssistantError(f"The config flow ended with {step}")
        entry_id: str = step["result"]["entry_id"]

        async def is_loaded() -> bool | None:
            entry = await self.command("config_entries/get_single", entry_id=entry_id)
            return entry["config_entry"]["state"] == "loaded" or None

        await until("set-up of the integration", is_loaded, 60)
        return entry_id

    async def devices(self) -> list[Device]:
        """Return the integration's devices and their enabled entities."""
        devices: dict[str, Device] = {}
        for device in await self.command("config/device_registry/list"):
            if any(domain == DOMAIN for domain, _ in device["identifiers"]):
                devices[device["id"]] = Device(device["id"], device["name"], {}, {})
        for entity in await self.command("config/entity_registry/list"):
            if entity["platform"] == DOMAIN and not entity["disabled_by"]:
                key = entity["unique_id"].partition("_")[2]
                device = devices[entity["device_id"]]
                device.entities[key] = entity["entity_id"]
                device.named[entity["translation_key"]] = entity["entity_id"]
        return list(devices.values())

    async def state(self, entity_id: str) -> str:
        """Return the state of an entity."""
        state = await self.request("GET", f"/api/states/{entity_id}")
        return str(state["state"])

    async def statistics(
        self,
        statistic_ids: Iterable[str],
        start: datetime,
        end: datetime,
        period: str = "hour",
    ) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of energy statistics."""
        rows: dict[str, list[dict[str, Any]]] = await self.command(
            "recorder/statistics_during_period",
            statistic_ids=list(statistic_ids),
            start_time=start.isoformat(),
            end_time=end.isoformat(),
            period=period,
            types=["change", "state", "sum"],
            units={"energy": "kWh"},
        )
        return rows

    async def changes(
        self, statistic_ids: Iterable[str], start: datetime, end: datetime
    ) -> dict[str, float]:
        """Return the known changes of statistics."""
        rows = await self.statistics(statistic_ids, start, end)
        return {
            statistic_id: math.fsum(row["change"] or 0.0 for row in hours)
            for statistic_id, hours in rows.items()
        }

    async def set_language(self, language: str) -> None:
        """Set the language of Home Assistant and of its user."""
        await self.command("config/core/update", language=language)
        await self.command(
            "frontend/set_user_data",
            key="language",
            value={"language": language, "number_format": "language"},
        )

    async def import_statistics(
        self, statistic_id: str, unit_class: str, unit: str, rows: list[dict[str, Any]]
    ) -> None:
        """Add hours to the statistics of an entity."""
        with_sum = "sum" in rows[0]
        await self.command(
            "recorder/import_statistics",
            metadata={
                "mean_type": 0 if with_sum else 1,
                "has_sum": with_sum,
                "name": None,
                "source": "recorder",
                "statistic_id": statistic_id,
                "unit_class": unit_class,
                "unit_of_measurement": unit,
            },
            stats=rows,
        )

    async def language(self) -> str:
        """Return the user's language."""
        stored = await self.command("frontend/get_user_data", key="language")
        return str(stored["value"]["language"]) if stored["value"] else "en"

    async def create_dashboard(self, title: str, config: dict[str, Any]) -> str:
        """Create a dashboard that opens first, and return its path."""
        path = title.lower().replace(" ", "-")
        await self.command(
            "lovelace/dashboards/create",
            url_path=path,
            title=title,
            icon="mdi:solar-power-variant",
        )
        await self.command("lovelace/config/save", url_path=path, config=config)
        await self.command(
            "frontend/set_system_data", key="core", value={"default_panel": path}
        )
        return f"/{path}"
