"""Tests of the layout: the direction of imports."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
import re
from typing import Final

import pytest

from custom_components import smartpvms

pytestmark = pytest.mark.fast

ROOT: Final = Path(smartpvms.__file__).parent
PACKAGE: Final = "custom_components.smartpvms"
# Modules that hold no state, time, I/O or Home Assistant.
PURE: Final = (
    "active_alarms",
    "apparent_power",
    "battery_health",
    "counter_evidence",
    "counter_filter",
    "plant.counter_activity",
    "plant.counters",
    "plant.day_end",
    "plant.energy",
    "plant.grid_point",
    "plant.power_flow",
    "plant.storage_sign",
    "plant.devices",
    "plant.votes",
    "plausibility",
    "power_units",
    "statistics.counter_values",
    "statistics.counters",
    "statistics.measurements",
    "statistics.rows",
)


def _modules() -> dict[str, Path]:
    modules = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        modules[".".join((PACKAGE, *parts))] = path
    return modules


def _imports(module: str, path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Return the modules of the integration that a module imports anywhere in it."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package.split(".")
            base = base[: len(base) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names if source.startswith(PACKAGE) else ():
                name = f"{source}.{alias.name}"
                yield name if name in modules else source


def _graph() -> dict[str, set[str]]:
    modules = _modules()
    return {
        module: set(_imports(module, path, modules)) - {module}
        for module, path in modules.items()
    }


def test_no_import_cycles() -> None:
    """There are no import cycles, including those of type hints."""
    order = [*TopologicalSorter(_graph()).static_order()]
    assert order[-1].startswith(PACKAGE)


def _layers() -> dict[str, int]:
    """Return the number of the layer of each module and package in CONTRIBUTING."""
    text = (ROOT.parents[1] / "CONTRIBUTING.md").read_text("utf-8")
    house = text.partition("custom_components/smartpvms/\n")[2].partition("```")[0]
    layers = {}
    for number, layer in enumerate(re.split(r"\n *-{9,}\n", house)):
        for names in re.findall(r"^ {4}(\S.*?)(?: {2,}|$)", layer, re.MULTILINE):
            for name in names.split(", "):
                layers[name.removesuffix("/").removesuffix(".py")] = number
    return layers


def _room(module: str) -> str:
    """Return the file or package of the house in which a module is."""
    name = module.removeprefix(PACKAGE).lstrip(".").partition(".")[0]
    return name or "__init__"


def test_layers() -> None:
    """Modules import from their own layer and from those below it."""
    layers = _layers()
    rooms = {_room(module) for module in _modules()}
    assert layers.keys() == rooms, "CONTRIBUTING.md lists every file and package"
    upwards = [
        f"{module} imports {name}"
        for module, names in _graph().items()
        for name in names
        if layers[_room(name)] < layers[_room(module)]
    ]
    assert not upwards


def test_nothing_imports_the_package_root() -> None:
    """The package root is the top of the import order."""
    importers = [module for module, names in _graph().items() if PACKAGE in names]
    assert importers == []


def test_pure_modules() -> None:
    """Pure modules do not import Home Assistant, and only models of the client."""
    modules = _modules()
    for name in PURE:
        text = modules[f"{PACKAGE}.{name}"].read_text("utf-8")
        imported = {
            alias.name if isinstance(node, ast.Import) else node.module
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert not [each for each in imported if each and "homeassistant" in each], name
        assert not imported & {"time", "asyncio"}, name
