"""A real headless Chromium, where the machine has one.

It is named by MMLBENCH_BROWSER, or is the first of chromium, chromium-browser, google-chrome on PATH.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--disable-sync", "--no-first-run", "--disable-quic"]


def browser_path() -> str:
    """Return the browser's path, '' where there is none."""
    names = [os.environ.get("MMLBENCH_BROWSER", ""), "chromium", "chromium-browser", "google-chrome"]
    return next((found for name in names if name and (found := shutil.which(name))), "")


@contextmanager
def started_browser() -> Iterator[Any]:
    """Start the browser; where there is none, or no playwright, the test is skipped."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install .[browser])")
    if not browser_path():
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as started:
        found = started.chromium.launch(executable_path=browser_path(), args=FLAGS)
        yield found
        found.close()
