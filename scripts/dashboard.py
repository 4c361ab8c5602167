"""The dashboards of the demo: those of the documentation with the demo's entities."""

from collections.abc import Collection, Iterable
from typing import Any

from homeassistant.util.yaml import parse_yaml
from scripts.home_assistant import ROOT, Device

DASHBOARDS = ROOT / "docs" / "dashboards"
# Prefixes of the plant's entities in the documentation.
DOCUMENTED_PLANT = "lindenweg_12"


def plants(devices: Iterable[Device]) -> list[Device]:
    """Return the devices that are plants."""
    return [device for device in devices if "real_health_state" in device.entities]


def dashboard(devices: Collection[Device]) -> dict[str, Any]:
    """Return the dashboard of a home or of many plants."""
    first, *others = plants(devices)
    text = (DASHBOARDS / f"{'fleet' if others else 'home'}.yaml").read_text()
    plant = (
        first.entities["total_power"]
        .split(".")[1]
        .removesuffix("_fusionsolar_yield_total")
    )
    entity_ids = {each for device in devices for each in device.entities.values()}
    config: Any = parse_yaml(text.replace(DOCUMENTED_PLANT, plant))
    for view in config["views"]:
        for section in view["sections"]:
            section["cards"] = _present(section["cards"], entity_ids)
    return dict(config)


def _present(
    cards: list[dict[str, Any]], entity_ids: Collection[str]
) -> list[dict[str, Any]]:
    """Return the cards without missing entities."""
    present = []
    for card in cards:
        for key in ("cards", "entities"):
            if key in card:
                card[key] = _present(card[key], entity_ids)
        if card.get("entity", None) not in {None, *entity_ids}:
            continue
        if [] not in (card.get("cards"), card.get("entities")):
            present.append(card)
    return present
