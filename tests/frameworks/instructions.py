"""The blocks of docs/instrument.md: what the tests run is what people copy."""

from __future__ import annotations

import re
from pathlib import Path

_TEXT = (Path(__file__).parents[2] / "docs" / "instrument.md").read_text()


def blocks(language: str) -> dict[str, list[str]]:
    """Return the blocks of a language by the heading above them."""
    found: dict[str, list[str]] = {}
    for section in re.split(r"^#+ ", _TEXT, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        inside = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if inside:
            found[heading] = inside
    return found
