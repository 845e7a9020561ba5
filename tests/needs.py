"""What a test needs beside Python: missing, it fails in CI and is skipped elsewhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def need(program: str | Path, package: str) -> None:
    """End the test unless the program is there; the message names Debian's package."""
    if shutil.which(program) is not None:
        return
    message = f"no {program}: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
