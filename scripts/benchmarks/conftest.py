"""Shows the tables of the tests of all processes, one row per test."""

from collections import defaultdict
from importlib.util import find_spec

import pytest


def pytest_configure() -> None:
    """Refuse an environment that is slower than Home Assistant's own."""
    if find_spec("ulid_transform._ulid_impl") is None:
        pytest.exit(
            "ulid-transform is not compiled, so each written state takes longer: install"
            " a C++ compiler, delete .venv and run this again"
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the recorded rows, and the seconds of each."""
    tables = defaultdict(list)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "row":
                    heading, row = value
                    tables[heading].append((row, report.duration))
    for heading, rows in tables.items():
        terminalreporter.write_line(f"\n{'seconds':>7}  {heading}")
        for row, seconds in sorted(rows):
            terminalreporter.write_line(f"{seconds:>7.0f}  {row}")
