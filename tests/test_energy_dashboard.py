"""Tests of the suggested Energy dashboard."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from freezegun.api import FrozenDateTimeFactory
import pytest
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.smartpvms.const import DOMAIN
from homeassistant.components.energy import data as energy
from homeassistant.components.recorder import get_instance
from homeassistant.components.recorder.tasks import StatisticsTask
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.setup import async_setup_component
from tests.simulator import Simulator, homes
from tests.simulator.plants import DeviceType, Home, Plant

from . import statistics
from .conftest import Account

# Before Home Assistant, as required.
pytestmark = pytest.mark.usefixtures("recorder_mock")

recorder_config = statistics.recorder_config

type Answer = dict[str, Any]

ACTION: Final = "suggest_energy_dashboard"

# Source types that only newer versions of Home Assistant support.
KNOWS_HOME: Final = hasattr(energy, "HomeSourceType")

NO_COSTS: Final = dict.fromkeys(
    (
        *("stat_cost", "entity_energy_price", "number_energy_price"),
        *("stat_compensation", "entity_energy_price_export"),
        "number_energy_price_export",
    )
)


def _device(plant: Plant, *type_ids: int) -> int:
    """Return the plant's only device of some types."""
    [device] = [each for each in plant.devices if each.type_id in type_ids]
    return device.id


class Suggestions:
    """The action, called as by a user."""

    def __init__(self, hass: HomeAssistant, account: Account) -> None:
        """Store the account."""
        self._hass = hass
        self._account = account

    async def __call__(self, **data: object) -> Answer:
        """Return the response of the action."""
        data = {"config_entry_id": self._account.entry.entry_id, **data}
        answer = await self._hass.services.async_call(
            DOMAIN, ACTION, data, blocking=True, return_response=True
        )
        assert answer is not None
        return dict(answer)

    async def sources(self, **data: object) -> dict[str, Any]:
        """Return the suggested sources by type; each type is unique."""
        sources = (await self(**data))["energy_sources"]
        by_kind = {source["type"]: source for source in sources}
        assert len(by_kind) == len(sources)
        return by_kind

    def entity(self, source_id: str | int, key: str) -> str:
        """Return the entity of a data item."""
        registered = self._account.registered(source_id, key)
        assert registered
        return registered.entity_id

    def device(self, source_id: str | int) -> str:
        """Return the registry ID of a plant or device."""
        device = dr.async_get(self._hass).async_get_device_by_identifier(
            (DOMAIN, str(source_id)), self._account.entry.entry_id
        )
        assert device
        return device.id

    async def preferences(self) -> Mapping[str, Any] | None:
        """Return the configuration of the Energy dashboard."""
        return (await energy.async_get_manager(self._hass)).data

    async def configure(self, *sources: Mapping[str, Any]) -> list[Any]:
        """Save sources as the user's, together with a measured fridge."""
        manager = await energy.async_get_manager(self._hass)
        preferences: Any = {
            "energy_sources": energy.ENERGY_SOURCE_SCHEMA([*sources]),
            "device_consumption": [{"stat_consumption": "sensor.fridge"}],
            "device_consumption_water": [],
        }
        await manager.async_update(preferences)
        return [*preferences["energy_sources"]]


@pytest.fixture
async def suggest(hass: HomeAssistant, added: Account) -> Suggestions:
    """Return the action in a Home Assistant with an Energy dashboard."""
    assert await async_setup_component(hass, "energy", {})
    await added.poll()
    return Suggestions(hass, added)


def _home(suggest: Suggestions, code: str) -> dict[str, Any]:
    """Return the source of the home if Home Assistant supports it."""
    source = {
        "type": "home",
        "stat_energy_to": suggest.entity(code, "home_energy"),
        "stat_rate": suggest.entity(code, "home_power"),
    }
    return {"home": source} if KNOWS_HOME else {}


def _entity_ids(sources: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the entities in sources."""
    return [
        value
        for source in sources
        for key, value in source.items()
        if key.startswith("stat_") and value
    ]


async def _submit(hass: HomeAssistant, result: Any) -> Any:
    """Submit a form of the options without fields."""
    return await hass.config_entries.options.async_configure(result["flow_id"], {})


class TestSuggestion:
    """Suggestions for homes of every kind."""

    @pytest.mark.parametrize(
        ("home", "rated"),
        [
            pytest.param(
                homes.family(),
                {"capacity": "rated_capacity"},
                id="family",
            ),
            pytest.param(
                homes.emma(),
                {"capacity": "rated_capacity"},
                id="emma",
            ),
            pytest.param(
                homes.farm(),
                {},
                id="farm",
            ),
        ],
    )
    async def test_home(
        self,
        suggest: Suggestions,
        simulator: Simulator,
        rated: dict[str, str],
    ) -> None:
        """Every source type uses the entities that measure it."""
        [plant] = simulator.home.plants
        battery = _device(plant, DeviceType.BATTERY, DeviceType.ESS)
        true = simulator.device_items(battery)
        assert await suggest.sources() == {
            "grid": {
                "type": "grid",
                "stat_energy_from": suggest.entity(plant.code, "grid_import"),
                "stat_energy_to": suggest.entity(plant.code, "grid_export"),
                "stat_rate": suggest.entity(plant.code, "grid_power"),
                "cost_adjustment_day": 0.0,
                **NO_COSTS,
            },
            "solar": {
                "type": "solar",
                "stat_energy_from": suggest.entity(plant.code, "pv_energy"),
                "stat_rate": suggest.entity(plant.code, "pv_power"),
                "config_entry_solar_forecast": None,
            },
            "battery": {
                "type": "battery",
                "stat_energy_from": suggest.entity(plant.code, "discharged_energy"),
                "stat_energy_to": suggest.entity(plant.code, "charged_energy"),
                "stat_rate": suggest.entity(plant.code, "battery_power"),
                "stat_soc": suggest.entity(battery, "battery_soc"),
                **{key: true[item] for key, item in rated.items()},
            },
            **_home(suggest, plant.code),
        }

    @pytest.mark.parametrize("home", [homes.apartment()])
    async def test_no_meter(self, suggest: Suggestions) -> None:
        """Without a meter, only a solar source is suggested."""
        assert set(await suggest.sources()) == {"solar"}

    @pytest.mark.parametrize("home", [homes.telecom()])
    async def test_telecom(self, suggest: Suggestions, simulator: Simulator) -> None:
        """A telecom site imports from its mains, and counts neither export nor charge."""
        [plant] = simulator.home.plants
        sources = await suggest.sources()
        assert "battery" not in sources
        grid = sources["grid"]
        assert grid["stat_energy_from"] == suggest.entity(plant.code, "grid_import")
        assert grid["stat_energy_to"] is None

    @pytest.mark.parametrize(
        ("key", "kind", "field"),
        [
            ("grid_power", "grid", "stat_rate"),
            ("pv_power", "solar", "stat_rate"),
            ("battery_power", "battery", "stat_rate"),
        ],
    )
    async def test_disabled(
        self,
        hass: HomeAssistant,
        suggest: Suggestions,
        simulator: Simulator,
        key: str,
        kind: str,
        field: str,
    ) -> None:
        """A disabled entity has no statistics and is not suggested."""
        [plant] = simulator.home.plants
        assert field in (await suggest.sources())[kind]
        er.async_get(hass).async_update_entity(
            suggest.entity(plant.code, key),
            disabled_by=er.RegistryEntryDisabler.USER,
        )
        assert field not in (await suggest.sources())[kind]

    async def test_only_the_total_yield(
        self, hass: HomeAssistant, suggest: Suggestions, simulator: Simulator
    ) -> None:
        """Without PV energy, the plant's own counter is suggested."""
        [plant] = simulator.home.plants
        er.async_get(hass).async_update_entity(
            suggest.entity(plant.code, "pv_energy"),
            disabled_by=er.RegistryEntryDisabler.USER,
        )
        solar = (await suggest.sources())["solar"]
        assert solar["stat_energy_from"] == suggest.entity(plant.code, "total_power")

    async def test_a_source_without_its_energy(
        self, hass: HomeAssistant, suggest: Suggestions, simulator: Simulator
    ) -> None:
        """A battery without a counter of its discharge is not suggested."""
        [plant] = simulator.home.plants
        er.async_get(hass).async_update_entity(
            suggest.entity(plant.code, "discharged_energy"),
            disabled_by=er.RegistryEntryDisabler.USER,
        )
        assert {"grid", "solar"} == set(await suggest.sources()) - {"home"}

    async def test_restart(self, added: Account, suggest: Suggestions) -> None:
        """The grid meter is known after a restart, before the first reading."""
        before = await suggest()
        await added.restart(off=timedelta(minutes=1))
        assert await suggest() == before


class TestApply:
    """Sources that are added to the user's configuration."""

    async def test_without_apply(self, suggest: Suggestions) -> None:
        """Without `apply`, the configuration is unchanged."""
        assert (await suggest())["added"] == []
        assert await suggest.preferences() is None

    async def test_empty(self, suggest: Suggestions) -> None:
        """All sources are added to an empty configuration, and only once."""
        answer = await suggest(apply=True)
        sources = answer["energy_sources"]
        assert answer["added"] == [source["type"] for source in sources]
        assert {"grid", "solar", "battery"} <= set(answer["added"])
        expected = {
            "energy_sources": sources,
            "device_consumption": [],
            "device_consumption_water": [],
        }
        assert await suggest.preferences() == expected
        assert await suggest(apply=True) == {**answer, "added": []}
        assert await suggest.preferences() == expected

    async def test_home_of_the_plant(
        self, suggest: Suggestions, simulator: Simulator
    ) -> None:
        """If all sources belong to the plant, its home is added, too."""
        [plant] = simulator.home.plants
        solar = {
            "type": "solar",
            "stat_energy_from": suggest.entity(plant.code, "total_power"),
            "config_entry_solar_forecast": None,
        }
        await suggest.configure(solar)
        answer = await suggest(apply=True)
        assert answer["added"] == ["grid", "battery", *_home(suggest, plant.code)]

    async def test_existing_types(
        self, suggest: Suggestions, simulator: Simulator
    ) -> None:
        """The user's sources are kept, and nothing is counted twice."""
        [plant] = simulator.home.plants
        battery = _device(plant, DeviceType.BATTERY)
        users = await suggest.configure(
            # The user's meter, with its price.
            {
                "type": "grid",
                "stat_energy_from": "sensor.smart_meter_import",
                "number_energy_price": 0.31,
                "cost_adjustment_day": 0,
            },
            # The same battery, with its own counters.
            {
                "type": "battery",
                "stat_energy_from": suggest.entity(battery, "total_discharged_energy"),
                "stat_energy_to": suggest.entity(battery, "total_charged_energy"),
            },
        )
        answer = await suggest(apply=True)
        # With a meter of the user, the home may be another one.
        assert answer["added"] == ["solar"]
        added = [
            source
            for source in answer["energy_sources"]
            if source["type"] in answer["added"]
        ]
        assert await suggest.preferences() == {
            "energy_sources": [*users, *added],
            "device_consumption": [{"stat_consumption": "sensor.fridge"}],
            "device_consumption_water": [],
        }


class TestSeveralPlants:
    """An account with several plants."""

    @pytest.fixture
    def home(self) -> Home:
        """Return an account with two plants."""
        return homes.fleet(plants=2, devices=6)

    @pytest.fixture
    async def added(
        self, hass: HomeAssistant, account: Account, simulator: Simulator
    ) -> Account:
        """Return the account, added with all its plants."""
        await account.add_plants(simulator.home.plants)
        return account

    async def test_apply(self, suggest: Suggestions, simulator: Simulator) -> None:
        """Each plant gets its own sources, next to those of the others."""
        seen: list[Any] = []
        for plant in simulator.home.plants:
            device_id = suggest.device(plant.code)
            answer = await suggest(device_id=device_id, apply=True)
            assert "solar" in answer["added"]
            seen += [
                source
                for source in answer["energy_sources"]
                if source["type"] in answer["added"]
            ]
            again = await suggest(device_id=device_id, apply=True)
            assert again["added"] == []
        preferences = await suggest.preferences()
        assert preferences
        assert preferences["energy_sources"] == seen
        # Home Assistant supports one home, which is none of these plants.
        kinds = [each["type"] for each in seen]
        assert kinds.count("solar") == 2
        assert "home" not in kinds

    async def test_plant_is_required(self, suggest: Suggestions) -> None:
        """With several plants, a plant must be chosen."""
        with pytest.raises(ServiceValidationError) as raised:
            await suggest()
        assert raised.value.translation_key == "no_plant"

    async def test_options(
        self,
        hass: HomeAssistant,
        added: Account,
        suggest: Suggestions,
        simulator: Simulator,
    ) -> None:
        """A plant is chosen first; plants without missing sources are left out."""
        first, second = simulator.home.plants
        result = await added.open_option("energy_plant")
        assert result["step_id"] == "energy_plant"
        assert result["data_schema"] is not None
        [selector] = result["data_schema"].schema.values()
        assert [each["label"] for each in selector.config["options"]] == [
            first.name,
            second.name,
        ]
        result = await hass.config_entries.options.async_configure(
            result["flow_id"], {"plant": second.code}
        )
        assert result["step_id"] == "energy_dashboard"
        await _submit(hass, result)
        preferences = await suggest.preferences()
        assert preferences
        assert suggest.entity(second.code, "pv_energy") in str(preferences)
        assert suggest.entity(first.code, "pv_energy") not in str(preferences)
        result = await added.open_option("energy_plant")
        assert result["step_id"] == "energy_dashboard"
        await _submit(hass, result)
        preferences = await suggest.preferences()
        assert suggest.entity(first.code, "pv_energy") in str(preferences)
        assert "energy_plant" not in await added.options_menu()


class TestOptions:
    """The options that set up the dashboard."""

    async def test_add(
        self, hass: HomeAssistant, added: Account, suggest: Suggestions
    ) -> None:
        """The form names the entities, and adds them when it is submitted."""
        sources = await suggest.sources()
        result = await added.open_option("energy_plant")
        assert result["step_id"] == "energy_dashboard"
        assert await suggest.preferences() is None
        placeholders = result["description_placeholders"]
        assert placeholders
        named = [hass.states.get(each) for each in _entity_ids(sources.values())]
        assert placeholders["entities"].splitlines() == [
            f"\u2022 {state.name}" for state in named if state
        ]
        before = added.entry.options
        result = await _submit(hass, result)
        assert result["type"] is FlowResultType.ABORT
        assert result["reason"] == "energy_dashboard"
        preferences = await suggest.preferences()
        assert preferences
        assert preferences["energy_sources"] == [*sources.values()]
        assert added.entry.options == before
        assert "energy_plant" not in await added.options_menu()

    async def test_only_what_is_missing(
        self,
        hass: HomeAssistant,
        added: Account,
        suggest: Suggestions,
        simulator: Simulator,
    ) -> None:
        """Types that the user has configured are neither listed nor added."""
        [plant] = simulator.home.plants
        users = await suggest.configure(
            {
                "type": "grid",
                "stat_energy_from": "sensor.smart_meter_import",
                "cost_adjustment_day": 0,
            }
        )
        result = await added.open_option("energy_plant")
        assert result["description_placeholders"]
        listed = result["description_placeholders"]["entities"]
        for key, is_listed in (("pv_power", True), ("grid_power", False)):
            state = hass.states.get(suggest.entity(plant.code, key))
            assert state
            assert (state.name in listed) is is_listed
        await _submit(hass, result)
        preferences = await suggest.preferences()
        assert preferences
        kinds = [each["type"] for each in preferences["energy_sources"]]
        assert preferences["energy_sources"][:1] == users
        assert kinds == ["grid", "solar", "battery"]

    async def test_unloaded_meanwhile(
        self, hass: HomeAssistant, added: Account, suggest: Suggestions
    ) -> None:
        """An account that is unloaded while the form is open adds nothing."""
        result = await added.open_option("energy_plant")
        await hass.config_entries.async_unload(added.entry.entry_id)
        result = await _submit(hass, result)
        assert result["reason"] == "not_loaded"
        assert await suggest.preferences() is None


class TestErrors:
    """Invalid requests."""

    @pytest.mark.parametrize(
        "choose",
        [lambda account: account.entry.entry_id, lambda account: "nonsense"],
        ids=["account", "nonsense"],
    )
    async def test_no_plant(
        self,
        added: Account,
        suggest: Suggestions,
        choose: Callable[[Account], str],
    ) -> None:
        """A device that is no plant of the account has no Energy dashboard."""
        with pytest.raises(ServiceValidationError) as raised:
            await suggest(device_id=choose(added))
        assert raised.value.translation_key == "no_plant"

    async def test_a_device(self, suggest: Suggestions, simulator: Simulator) -> None:
        """A device of a plant is rejected."""
        [plant] = simulator.home.plants
        battery = _device(plant, DeviceType.BATTERY)
        with pytest.raises(ServiceValidationError) as raised:
            await suggest(device_id=suggest.device(battery))
        assert raised.value.translation_key == "no_plant"

    async def test_no_energy(self, hass: HomeAssistant, added: Account) -> None:
        """Without the energy integration, the action raises an error."""
        with pytest.raises(ServiceValidationError) as raised:
            await Suggestions(hass, added)()
        assert raised.value.translation_key == "energy_not_loaded"


@pytest.mark.parametrize(
    "home",
    [homes.family(), homes.emma(), homes.farm(), homes.apartment()],
    ids=["family", "emma", "farm", "apartment"],
)
async def test_no_issues(
    hass: HomeAssistant,
    added: Account,
    suggest: Suggestions,
    freezer: FrozenDateTimeFactory,
    hass_ws_client: WebSocketGenerator,
) -> None:
    """With statistics, the Energy dashboard reports no issue."""
    answer = await suggest(apply=True)
    await added.poll()
    recorder = get_instance(hass)
    begin = datetime(2026, 6, 21, 10, tzinfo=UTC)
    for minutes in (0, 5):
        recorder.queue_task(StatisticsTask(begin + timedelta(minutes=minutes), False))
    await recorder.async_block_till_done()
    client = await hass_ws_client(hass)
    await client.send_json_auto_id({"type": "energy/validate"})
    response = await client.receive_json()
    assert response["success"]
    issues = response["result"]["energy_sources"]
    assert issues == [[]] * len(answer["energy_sources"])
