"""A browser, for the tests that open pages in one: each module's own, gone with it."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium; its callers skip where there is none."""
    from playwright import sync_api

    from tests.end_to_end.test_view import CHROMIUM

    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()
