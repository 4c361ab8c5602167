"""Offline tests of the requirements of hassfest, the HACS action and brands."""

from importlib import import_module
import json
from pathlib import Path
import re
import struct
import tomllib
from typing import Any, Final

import pytest

from custom_components.smartpvms import PLATFORMS
from custom_components.smartpvms.const import DOMAIN
from homeassistant.const import Platform
from homeassistant.util.yaml import load_yaml_dict

from .component import COMPONENT, ROOT, read_json

pytestmark = pytest.mark.fast

MANIFEST: Final = read_json("manifest.json")
HACS: Final[dict[str, Any]] = json.loads((ROOT / "hacs.json").read_text())

MANIFEST_KEYS: Final = {
    *("domain", "name", "after_dependencies", "bluetooth", "codeowners"),
    *("config_flow", "dependencies", "dhcp", "disabled", "documentation"),
    *("homekit", "import_executor", "integration_type", "iot_class"),
    *("issue_tracker", "loggers", "mqtt", "quality_scale", "requirements"),
    *("single_config_entry", "ssdp", "usb", "version", "zeroconf"),
}
REQUIRED_BY_HACS: Final = {
    *("codeowners", "documentation", "domain", "issue_tracker", "name", "version"),
}
HACS_KEYS: Final = {
    *("content_in_root", "country", "filename", "hacs", "hide_default_branch"),
    *("homeassistant", "name", "persistent_directory", "render_readme"),
    "zip_release",
}

BRONZE: Final = {
    *("action-setup", "appropriate-polling", "brands", "common-modules"),
    *("config-flow", "config-flow-test-coverage", "dependency-transparency"),
    *("docs-actions", "docs-conditions", "docs-high-level-description"),
    *("docs-installation-instructions", "docs-removal-instructions"),
    *("docs-triggers", "entity-event-setup", "entity-unique-id"),
    *("has-entity-name", "runtime-data", "test-before-configure"),
    *("test-before-setup", "unique-config-entry"),
}
SILVER: Final = {
    *("action-exceptions", "config-entry-unloading"),
    *("docs-configuration-parameters", "docs-installation-parameters"),
    *("entity-unavailable", "integration-owner", "log-when-unavailable"),
    *("parallel-updates", "reauthentication-flow", "test-coverage"),
}
GOLD: Final = {
    *("devices", "diagnostics", "discovery", "discovery-update-info"),
    *("docs-data-update", "docs-examples", "docs-known-limitations"),
    *("docs-supported-devices", "docs-supported-functions"),
    *("docs-troubleshooting", "docs-use-cases", "dynamic-devices"),
    *("entity-category", "entity-device-class", "entity-disabled-by-default"),
    *("entity-translations", "exception-translations", "icon-translations"),
    *("reconfiguration-flow", "repair-issues", "stale-devices"),
}
PLATINUM: Final = {"async-dependency", "inject-websession", "strict-typing"}


def test_manifest() -> None:
    """The manifest has the keys required by hassfest and HACS, in their order."""
    keys = list(MANIFEST)
    assert keys[:2] == ["domain", "name"]
    assert keys[2:] == sorted(keys[2:])
    assert REQUIRED_BY_HACS <= set(keys) <= MANIFEST_KEYS
    assert MANIFEST["domain"] == DOMAIN == COMPONENT.name
    assert MANIFEST["requirements"] == []
    assert MANIFEST["integration_type"] == "hub"
    assert MANIFEST["iot_class"] == "cloud_polling"
    assert MANIFEST["config_flow"] is True
    assert (COMPONENT / "config_flow.py").is_file()
    assert MANIFEST["codeowners"]
    assert all(re.fullmatch(r"@[\w-]+", owner) for owner in MANIFEST["codeowners"])


def test_addresses() -> None:
    """Documentation and issues are on the web, but not on the site of core."""
    documentation, issues = MANIFEST["documentation"], MANIFEST["issue_tracker"]
    assert documentation.startswith("https://")
    assert "home-assistant.io" not in documentation
    assert issues == f"{documentation}/issues"


def test_organization() -> None:
    """The organization is the same in all files."""
    owner = MANIFEST["documentation"].split("/")[3]
    assert MANIFEST["codeowners"] == [f"@{owner}"]
    pages = [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "blueprints").rglob("*.yaml"),
    ]
    named = [
        name
        for page in pages
        for name in re.findall(
            r"(?:github\.com(?:/|%2F)|owner=|path: (?=[\w-]+/))([\w-]+)",
            page.read_text(),
        )
    ]
    # At least an address for each blueprint, in its file and in two pages.
    assert len(named) > 3 * 5
    # The integration of docs/moving.md and the cards of docs/cards.md have other owners.
    others = {"RomRider", "flixlix", "slipx06", "tijsverkoyen"}
    assert set(named) == {owner, *others}


def test_version() -> None:
    """The version is only in the manifest, and matches the changelog."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [version, *_] = re.findall(
        r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+", MANIFEST["version"])
    assert version == MANIFEST["version"]
    assert project["version"] == "0"


def test_hacs() -> None:
    """hacs.json has known keys, and the name of the manifest."""
    assert set(HACS) <= HACS_KEYS
    assert HACS["name"] == MANIFEST["name"]


def test_floor() -> None:
    """The oldest supported Home Assistant is the oldest one tested."""
    pins = (ROOT / "requirements_floor.txt").read_text()
    [(year, month)] = re.findall(
        r"^homeassistant==(\d+)\.(\d+)\.\d+$", pins, re.MULTILINE
    )
    assert HACS["homeassistant"] == f"{year}.{month}.0"
    readme = (ROOT / "README.md").read_text()
    assert f"Home Assistant {HACS['homeassistant']} or newer" in readme


def test_no_strings_json() -> None:
    """Only core builds translations from strings.json."""
    assert not list(COMPONENT.rglob("strings.json"))


@pytest.mark.parametrize("name", ["LICENSE", "README.md"])
def test_repository(name: str) -> None:
    """The files that HACS requires exist."""
    assert (ROOT / name).read_text().strip()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_parallel_updates(platform: Platform) -> None:
    """Every platform defines the number of its parallel updates."""
    module = import_module(f"custom_components.{DOMAIN}.{platform}")
    assert module.PARALLEL_UPDATES == 0


def test_platforms_are_sorted() -> None:
    """Platforms are in alphabetical order."""
    assert sorted(PLATFORMS) == PLATFORMS


def _png(path: Path) -> tuple[int, int, int]:
    """Return width, height and color type of a PNG from its header."""
    header = path.read_bytes()[:33]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert header[12:16] == b"IHDR"
    width, height, _, color_type = struct.unpack(">IIBB", header[16:26])
    return width, height, color_type


@pytest.mark.parametrize("variant", ["", "dark_"])
@pytest.mark.parametrize(("suffix", "scale"), [("", 1), ("@2x", 2)])
def test_brand(variant: str, suffix: str, scale: int) -> None:
    """Icon and logo have the sizes required for brands, and transparency."""
    brand = COMPONENT / "brand"
    icon = _png(brand / f"{variant}icon{suffix}.png")
    # Color type 6 is RGBA.
    assert icon == (256 * scale, 256 * scale, 6)
    width, height, color_type = _png(brand / f"{variant}logo{suffix}.png")
    assert 128 * scale <= height <= 256 * scale
    assert width > height
    assert color_type == 6


def test_brand_has_nothing_else() -> None:
    """Home Assistant serves only these images."""
    assert {path.name for path in (COMPONENT / "brand").iterdir()} == {
        f"{variant}{image}{suffix}.png"
        for variant in ("", "dark_")
        for image in ("icon", "logo")
        for suffix in ("", "@2x")
    }


def test_quality_scale() -> None:
    """Every rule of the scale is met, or exempt with a comment."""
    rules = load_yaml_dict(COMPONENT / "quality_scale.yaml")["rules"]
    tiers = (BRONZE, SILVER, GOLD, PLATINUM)
    assert [len(tier) for tier in tiers] == [20, 10, 21, 3]
    assert [*rules] == [rule for tier in tiers for rule in rules if rule in tier]
    assert set(rules) == BRONZE | SILVER | GOLD | PLATINUM
    exempt = {rule: status for rule, status in rules.items() if status != "done"}
    for rule, status in exempt.items():
        assert set(status) == {"status", "comment"}, rule
        assert status["status"] == "exempt", rule
        assert status["comment"].strip(), rule


def test_manifest_has_no_quality_scale() -> None:
    """Only core awards a tier; all other integrations are custom."""
    assert "quality_scale" not in MANIFEST
