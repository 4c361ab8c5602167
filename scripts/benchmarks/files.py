"""Real files of Home Assistant, because writing them is part of the measurement."""

from typing import Any

import pytest


@pytest.fixture
def hass_config_dir(hass_tmp_config_dir: str) -> str:
    """Use a separate folder."""
    return hass_tmp_config_dir


@pytest.fixture
def hass_storage() -> dict[str, Any]:
    """Use the real storage."""
    return {}
