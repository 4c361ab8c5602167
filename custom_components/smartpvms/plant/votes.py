"""Votes of readings on a question with two answers."""

from typing import Final

# Votes that decide, and the highest number of votes.
AGREEING: Final = 2
FIRM: Final = 12


def voted(votes: int, yes: bool) -> int:
    """Return the votes after another one, positive for yes."""
    return max(min(votes + (1 if yes else -1), FIRM), -FIRM)
