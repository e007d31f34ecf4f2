"""A real browser for the tests of the page: chromium, driven by playwright."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

SCREENSHOTS = os.environ.get("KPO_ASYNC_SCREENSHOTS", "")
"""The folder for the documentation's pictures. Empty: none are made."""

# A page, an API server and a cluster share a machine that may be busy.
expect.set_options(timeout=30_000)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's chromium. Skips the test where there is none."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox"],
            ignore_default_args=["--hide-scrollbars"],  # they take room from the page, as people see it
        )
        yield browser
        browser.close()


@contextlib.contextmanager
def open_page(
    browser: Browser, url: str, token: str, *, theme: str = "light", size: tuple[int, int] = (1360, 800)
) -> Iterator[Page]:
    """Open `url` as the user of a token. Afterwards fails for any error, and for what the page's policy refused."""
    width, height = size
    context = browser.new_context(color_scheme=theme, viewport={"width": width, "height": height})  # type: ignore[arg-type]
    context.add_cookies([{"name": "_token", "value": token, "domain": "127.0.0.1", "path": "/"}])
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
    page.goto(url)
    try:
        yield page
    finally:
        context.close()
    assert [problem for problem in problems if "kpo-async" in problem or "Security Policy" in problem] == []


def picture(page: Page, name: str) -> None:
    """Take a picture for the documentation, if they are wanted."""
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")
