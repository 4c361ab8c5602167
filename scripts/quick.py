"""Run Home Assistant with a fast import and a pass a minute: python -m scripts.quick."""

import sys

from custom_components.smartpvms.northbound import flow_control
from homeassistant import __main__ as home_assistant
from scripts.eager import hasten

if __name__ == "__main__":
    hasten()
    # The account has the same quota for a minute as others for five.
    flow_control.FIVE_MINUTES = flow_control.MINUTE  # type: ignore[misc]
    sys.exit(home_assistant.main())
