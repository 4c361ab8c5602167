"""Dashboards of a home and of many plants, made of Home Assistant's own cards."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.translation import async_get_translations
from homeassistant.util import dt as dt_util

from .const import DOMAIN
from .descriptions import ALARM_EVENTS
from .energy_dashboard import async_has_sources
from .entity_registry import enabled_entity_id
from .northbound import Device, Plant
from .plant import INVERTERS
from .runtime import SmartPvmsConfigEntry

type Card = dict[str, Any]

# The colors of Home Assistant's energy cards.
PV: Final = "orange"
HOME: Final = "indigo"
GRID: Final = "blue"
EXPORT: Final = "purple"
BATTERY: Final = "teal"
CHARGE: Final = "pink"

ENTITY: Final = {"type": "entity"}
DEVICE: Final = {"type": "device"}
# In half a row, names are cut in some languages.
WIDE: Final = {"grid_options": {"columns": "full"}}

# A graph of the last 24 hours needs this past.
DAY: Final = timedelta(hours=24)


class _Dashboard:
    """The texts and entities of an account's dashboard."""

    def __init__(
        self, hass: HomeAssistant, entry: SmartPvmsConfigEntry, texts: dict[str, str]
    ) -> None:
        """Initialize with the translations and the entities by their unique ids."""
        self.texts = texts
        self.inventory = entry.runtime_data.inventory.data
        self.grid_point = entry.runtime_data.real_time.grid_point
        self.registry = er.async_get(hass)
        self.sensor = partial(enabled_entity_id, hass, Platform.SENSOR)
        self.binary_sensor = partial(enabled_entity_id, hass, Platform.BINARY_SENSOR)
        self.event = partial(enabled_entity_id, hass, Platform.EVENT)

    def text(self, key: str) -> str:
        """Return a text of the integration in Home Assistant's language."""
        return self.texts[f"component.{DOMAIN}.{key}"]

    def is_new(self, entity_id: str) -> bool:
        """Return whether an entity was added in the last 24 hours."""
        registered = self.registry.async_get(entity_id)
        return registered is None or dt_util.utcnow() - registered.created_at < DAY

    def inverters(self, plant: Plant) -> list[Device]:
        """Return the inverters of a plant."""
        devices = self.inventory.devices_of(plant.code)
        return [device for device in devices if device.type_id in INVERTERS]

    def heading(self, key: str, icon: str) -> Card:
        """Return the heading of a section."""
        return {"type": "heading", "heading": self.text(f"common.{key}"), "icon": icon}


async def _async_dashboard(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry
) -> _Dashboard:
    # Only the language of the start is cached.
    texts: dict[str, str] = {}
    for category in ("common", "entity"):
        texts |= await async_get_translations(
            hass, hass.config.language, category, {DOMAIN}
        )
    return _Dashboard(hass, entry, texts)


def _tile(entity_id: str | None, **options: Any) -> list[Card]:
    if entity_id is None:
        return []
    return [{"type": "tile", "entity": entity_id, "name": ENTITY} | WIDE | options]


def _gauge(entity_id: str | None, name: Any) -> list[Card]:
    """Return the gauge of a state of charge."""
    if entity_id is None:
        return []
    return [
        {
            "type": "gauge",
            "entity": entity_id,
            "name": name,
            "min": 0,
            "max": 100,
            "needle": True,
            "severity": {"green": 30, "yellow": 15, "red": 0},
        }
    ]


def _of_several(devices: Sequence[Device]) -> Any:
    """Return the name of a device's entity, with the device if there are several."""
    return [DEVICE, ENTITY] if len(devices) > 1 else ENTITY


def _entities(entity_id: str | None, **options: Any) -> list[Card]:
    return [{"entity": entity_id} | options] if entity_id else []


def _days(entities: list[Card], title: str) -> list[Card]:
    """Return a graph of the energies of the last 30 days."""
    if not entities:
        return []
    return [
        {
            "type": "statistics-graph",
            "title": title,
            "chart_type": "bar",
            "period": "day",
            "days_to_show": 30,
            "stat_types": ["change"],
            "entities": entities,
        }
    ]


async def async_suggest_home(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry, plant: Plant
) -> Card:
    """Return the dashboard of a plant, without cards for what it lacks."""
    shown = await _async_dashboard(hass, entry)
    sections = (
        _powers(shown, plant),
        _today(shown, plant),
        _states(shown, plant),
    )
    views = [
        _view(shown, "now", "mdi:home-lightning-bolt", [*filter(None, sections)]),
    ]
    if await async_has_sources(hass):
        energy = _energy_cards(shown, plant)
        views.append(_view(shown, "energy", "mdi:lightning-bolt", energy))
    return {"title": plant.name, "views": views}


def _view(
    shown: _Dashboard, key: str, icon: str, sections: Sequence[list[Card]]
) -> Card:
    return {
        "title": shown.text(f"common.{key}"),
        "path": key,
        "icon": icon,
        "type": "sections",
        "max_columns": 3,
        "sections": [{"type": "grid", "cards": cards} for cards in sections],
    }


def _powers(shown: _Dashboard, plant: Plant) -> list[Card]:
    """Return the powers of a plant, now and in the last 24 hours."""
    powers = [
        card
        for key, color in (
            ("pv_power", PV),
            ("home_power", HOME),
            ("battery_power", BATTERY),
            ("grid_power", GRID),
        )
        for card in _entities(shown.sensor(plant.code, key), name=ENTITY, color=color)
    ]
    if not powers:
        return []
    state = "entity.sensor.battery_state.state"
    return [
        shown.heading("power", "mdi:flash"),
        *_tile(shown.sensor(plant.code, "pv_power"), color=PV),
        *_tile(shown.sensor(plant.code, "home_power"), color=HOME),
        *_signed(
            shown.sensor(plant.code, "battery_power"),
            BATTERY,
            (shown.text(f"{state}.charging"), "mdi:battery-arrow-up"),
            (shown.text(f"{state}.discharging"), "mdi:battery-arrow-down"),
        ),
        *_signed(
            shown.sensor(plant.code, "grid_power"),
            GRID,
            (shown.text("common.exporting"), "mdi:transmission-tower-export"),
            (shown.text("common.importing"), "mdi:transmission-tower-import"),
        ),
        _last_day(shown, powers, [*_powers_of_devices(shown, plant)]),
    ]


def _signed(
    entity_id: str | None,
    color: str,
    negative: tuple[str, str],
    positive: tuple[str, str],
) -> list[Card]:
    """Return the tiles of a power, whose name and icon follow its sign."""
    if entity_id is None:
        return []
    below: Card = {"condition": "numeric_state", "entity": entity_id, "below": 0}
    above: Card = {"condition": "numeric_state", "entity": entity_id, "above": 0}
    neither = {
        "condition": "not",
        "conditions": [{"condition": "or", "conditions": [below, above]}],
    }
    return [
        *(
            card
            for (text, icon), condition in ((negative, below), (positive, above))
            for card in _tile(
                entity_id,
                name=[ENTITY, {"type": "text", "text": text}],
                icon=icon,
                color=color,
                visibility=[condition],
            )
        ),
        *_tile(entity_id, color=color, visibility=[neither]),
    ]


def _last_day(shown: _Dashboard, powers: list[Card], of_devices: list[Card]) -> Card:
    """Return a graph of the last 24 hours.

    The powers of a plant have no history. Until they are a day old, those of its
    devices are shown.
    """
    card: Card = {"title": shown.text("common.last_24_hours")}
    if of_devices and any(shown.is_new(power["entity"]) for power in powers):
        return card | {
            "type": "statistics-graph",
            "chart_type": "line",
            "period": "hour",
            "days_to_show": 1,
            "stat_types": ["mean"],
            "entities": of_devices,
        }
    return card | {"type": "history-graph", "hours_to_show": 24, "entities": powers}


def _pv_power(shown: _Dashboard, inverter: Device) -> str | None:
    return shown.sensor(inverter.id, "mppt_power") or shown.sensor(
        inverter.id, "active_power"
    )


def _powers_of_devices(shown: _Dashboard, plant: Plant) -> Iterator[Card]:
    point = shown.grid_point(plant.code)
    for device in shown.inventory.devices_of(plant.code):
        if device.type_id in INVERTERS:
            color, entity_id = PV, _pv_power(shown, device)
        elif device.id == point:
            color, entity_id = GRID, shown.sensor(device.id, "active_power")
        else:
            color = BATTERY
            entity_id = shown.sensor(device.id, "ch_discharge_power")
        yield from _entities(entity_id, name=[DEVICE, ENTITY], color=color)


def _today(shown: _Dashboard, plant: Plant) -> list[Card]:
    """Return the rates of now, and the energies and the revenue of today."""
    devices = shown.inventory.devices_of(plant.code)
    storages = [each for each in devices if shown.sensor(each.id, "battery_soc")]
    rates = [
        *(
            card
            for storage in storages
            for card in _gauge(
                shown.sensor(storage.id, "battery_soc"), _of_several(storages)
            )
        ),
        *(
            card
            for key in ("self_sufficiency", "self_consumption")
            for card in _tile(
                shown.sensor(plant.code, key), features=[{"type": "bar-gauge"}]
            )
        ),
    ]
    today = [
        *(
            card
            for key, color in (
                ("day_power", PV),
                ("day_use_energy", HOME),
                ("day_import_energy", GRID),
                ("day_on_grid_energy", EXPORT),
                ("day_income", "green"),
            )
            for card in _tile(shown.sensor(plant.code, key), color=color)
        ),
        *(
            card
            for storage in storages
            for key, color in (("charge_cap", CHARGE), ("discharge_cap", BATTERY))
            for card in _tile(
                shown.sensor(storage.id, key),
                name=_of_several(storages),
                color=color,
            )
        ),
    ]
    return [
        *([shown.heading("self_supply", "mdi:leaf"), *rates] if rates else []),
        *([shown.heading("today", "mdi:calendar-today"), *today] if today else []),
    ]


def _states(shown: _Dashboard, plant: Plant) -> list[Card]:
    """Return the states of a plant and its devices."""
    devices = shown.inventory.devices_of(plant.code)
    states = [
        *_tile(shown.sensor(plant.code, "real_health_state")),
        *_tile(shown.sensor(plant.code, "active_alarms")),
        *_tile(
            shown.event(plant.code, ALARM_EVENTS.key),
            state_content=["name", "state"],
        ),
        *(
            card
            for device in devices
            for card in _tile(
                shown.sensor(device.id, "inverter_state")
                or shown.sensor(device.id, "battery_status")
                or shown.binary_sensor(device.id, "run_state"),
                name=DEVICE,
            )
        ),
        *(
            card
            for inverter in shown.inverters(plant)
            for card in _tile(
                shown.sensor(inverter.id, "temperature"),
                name=[DEVICE, ENTITY],
                features=[{"type": "trend-graph"}],
            )
        ),
        *_days(
            _entities(shown.sensor(plant.code, "pv_energy"), name=ENTITY, color=PV),
            shown.text("common.last_30_days"),
        ),
    ]
    return [shown.heading("plant", "mdi:heart-pulse"), *states] if states else []


def _energy_cards(shown: _Dashboard, plant: Plant) -> list[list[Card]]:
    """Return the cards of the Energy dashboard."""
    with_grid = shown.sensor(plant.code, "grid_power") is not None
    gauges = ("self-sufficiency-gauge", "solar-consumed-gauge", "grid-neutrality-gauge")
    return [
        [
            {"type": "energy-date-selection"},
            {"type": "power-sankey"},
            {"type": "energy-distribution", "link_dashboard": True},
            *({"type": f"energy-{gauge}"} for gauge in gauges if with_grid),
        ],
        [
            {"type": "energy-usage-graph"},
            {"type": "energy-solar-graph"},
            {"type": "power-sources-graph"},
            {"type": "energy-sources-table"},
        ],
    ]


def _pv_powers(shown: _Dashboard, plant: Plant) -> Iterator[Card]:
    """Yield the PV powers of a plant among others."""
    inverters = shown.inverters(plant)
    for inverter in inverters:
        name = plant.name if len(inverters) == 1 else f"{plant.name} {inverter.name}"
        yield from _entities(_pv_power(shown, inverter), name=name)


async def async_suggest_fleet(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> Card:
    """Return the dashboard of all plants of an account."""
    shown = await _async_dashboard(hass, entry)
    plants = [*shown.inventory.plants.values()]

    def of_plants(key: str) -> list[Card]:
        return [
            card
            for plant in plants
            for card in _entities(shown.sensor(plant.code, key), name=plant.name)
        ]

    def name(key: str) -> str:
        return shown.text(f"entity.sensor.{key}.name")

    power = of_plants("pv_power")
    of_inverters = [card for plant in plants for card in _pv_powers(shown, plant)]
    sections = [
        [
            *_filtered(
                shown.text("common.needs_attention"),
                of_plants("real_health_state"),
                {"condition": "state", "state_not": "healthy"},
            ),
            *_filtered(
                name("active_alarms"),
                of_plants("active_alarms"),
                {"condition": "numeric_state", "above": 0},
            ),
            shown.heading("power", "mdi:flash"),
            *({"type": "tile", "color": PV} | WIDE | each for each in power),
        ],
        [
            shown.heading("today", "mdi:calendar-today"),
            *_listed(name("pv_production_today"), of_plants("day_power")),
            *_listed(name("revenue_today"), of_plants("day_income")),
        ],
        [
            shown.heading("compared", "mdi:chart-line"),
            *([_last_day(shown, power, of_inverters)] if power else []),
            *_days(of_plants("pv_energy"), shown.text("common.last_30_days")),
        ],
    ]
    views = [_view(shown, "plants", "mdi:solar-power-variant", sections)]
    return {"title": shown.text("common.plants"), "views": views}


def _listed(title: str, entities: list[Card]) -> list[Card]:
    if not entities:
        return []
    return [{"type": "entities", "title": title, "entities": entities}]


def _filtered(title: str, entities: list[Card], condition: Card) -> list[Card]:
    """Return a card of the entities that meet a condition."""
    if not entities:
        return []
    return [
        {
            "type": "entity-filter",
            "show_empty": False,
            "card": {"type": "entities", "title": title},
            "conditions": [condition],
            "entities": entities,
        }
    ]
