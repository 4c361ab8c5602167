"""The dashboard of the demo, made of Home Assistant's own cards."""

from typing import Any, NamedTuple

from scripts.home_assistant import Device

type Card = dict[str, Any]


class Section(NamedTuple):
    """What is shown of a kind of device."""

    kind: str
    icon: str
    # Tells the kind apart from others, which share most names of data items.
    having: str
    tiles: tuple[str, ...]


SECTIONS: tuple[Section, ...] = (
    Section(
        "Plant",
        "mdi:home-lightning-bolt",
        "real_health_state",
        ("day_power", "month_power", "total_power", "real_health_state"),
    ),
    Section(
        "Solar",
        "mdi:solar-power-variant",
        "inverter_state",
        ("active_power", "mppt_power", "day_cap", "total_cap", "inverter_state"),
    ),
    Section(
        "Battery",
        "mdi:home-battery",
        "battery_soc",
        (
            "battery_soc",
            "ch_discharge_power",
            "charge_cap",
            "discharge_cap",
            "battery_status",
        ),
    ),
    Section(
        "Grid",
        "mdi:transmission-tower",
        "reverse_active_cap",
        ("active_power", "active_cap", "reverse_active_cap"),
    ),
)

GAUGES: dict[str, Card] = {
    "battery_soc": {
        "min": 0,
        "max": 100,
        "severity": {"green": 30, "yellow": 15, "red": 0},
    }
}
CHARTED = ("active_power", "ch_discharge_power")

# Without the name of the device, which the heading stands for.
ENTITY_NAME = {"type": "entity"}


def _heading(text: str, icon: str) -> Card:
    return {"type": "heading", "heading": text, "icon": icon}


def _card(key: str, entity_id: str) -> Card:
    # Half as wide, tiles cut the longer names off.
    tile = {"type": "tile", "grid_options": {"columns": "full"}}
    kind = {"type": "gauge", **GAUGES[key]} if key in GAUGES else tile
    return {"entity": entity_id, "name": ENTITY_NAME, **kind}


def dashboard(title: str, devices: list[Device]) -> dict[str, Any]:
    """Return the dashboard of a home."""
    sections = []
    charted: list[str] = []
    for section in SECTIONS:
        for _, name, entities, _ in devices:
            if section.having in entities:
                cards = [_heading(name, section.icon)]
                cards += [
                    _card(key, entities[key])
                    for key in section.tiles
                    if key in entities
                ]
                sections.append({"type": "grid", "cards": cards})
                charted += [entities[key] for key in CHARTED if key in entities]
    if charted:
        history = {"type": "history-graph", "hours_to_show": 6, "entities": charted}
        cards = [_heading("Power", "mdi:chart-line"), history]
        sections.append({"type": "grid", "cards": cards})
    view = {"title": title, "path": "now", "type": "sections", "sections": sections}
    return {"views": [view]}
