"""The published GLM-5.2 config.json, as the FP8 checkpoint has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("data") / "glm52_published_config.json"


def published(**changes: Any) -> dict[str, Any]:
    """A fresh copy with `changes`; a change to `...` takes the field out."""
    config = json.loads(FILE.read_text()) | changes
    return {key: value for key, value in config.items() if value is not ...}
