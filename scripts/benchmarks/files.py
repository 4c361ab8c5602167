"""Lets Home Assistant write its files: what that takes is a part of what is measured."""

from typing import Any

import pytest


@pytest.fixture
def hass_config_dir(hass_tmp_config_dir: str) -> str:
    """Write into a folder of its own."""
    return hass_tmp_config_dir


@pytest.fixture
def hass_storage() -> dict[str, Any]:
    """Mock no storage."""
    return {}
