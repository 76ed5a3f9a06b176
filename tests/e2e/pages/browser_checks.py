"""Browser helpers: sign-in, accessibility, layout shift and focus checks."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import BrowserContext, ConsoleMessage, Page, Request, ViewportSize, expect

from tests.doors.live_server import SECRET

PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": 320, "height": 640}
"""1280 px at 400 % zoom, the WCAG reflow width: no horizontal scrolling."""
AXE = Path(__file__).parents[2] / "node" / "node_modules" / "axe-core" / "axe.min.js"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_RECORD_LAYOUT_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    const at = entry.sources.map((source) => source.node?.id || source.node?.className || source.node?.nodeName);
    window.shifts.push({value: entry.value, at});
  }
}).observe({type: "layout-shift", buffered: true});
"""


@dataclass
class PageMonitor:
    """Records script errors, CSP violations and requests to other hosts."""

    host: str
    violations: list[str] = field(default_factory=list[str])

    def attach(self, context: BrowserContext) -> None:
        """Listen to the events of *context*."""
        context.on("weberror", lambda error: self.violations.append(f"error: {error.error}"))
        context.on("console", self._check_console)
        context.on("request", self._check_request)

    def _check_console(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "Content-Security-Policy" in message.text:
            self.violations.append(message.text)

    def _check_request(self, request: Request) -> None:
        if not request.url.startswith((self.host, "data:", "about:", "blob:")):
            self.violations.append(f"request to {request.url}")


async def sign_in(page: Page, url: str) -> None:
    """Sign in the page's browser context without navigating."""
    answer = await page.context.request.post(f"{url}/sign-in", form={"key": SECRET, "next": "/"})
    assert answer.ok, await answer.text()


async def axe_violations(page: Page) -> list[str]:
    """Run axe-core; returns one line per violation."""
    if not await page.evaluate("'axe' in window"):
        # Evaluated, not added as a script: the page's content security policy blocks foreign scripts.
        await page.evaluate(AXE.read_text(encoding="utf-8"))
    await page.evaluate("Promise.all(document.getAnimations().map((each) => each.finished.catch(() => {})))")
    found: dict[str, Any] = await page.evaluate(
        "(tags) => axe.run(document, {runOnly: {type: 'tag', values: tags}})", _RULES
    )
    return [
        f"{each['id']} ({each['impact']}): {node['target']} {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


async def assert_accessible(page: Page) -> None:
    """Assert no axe-core violation in both themes and viewports, and no horizontal scrolling."""
    await expect(page.locator("h1")).to_have_count(1)
    found: list[str] = []
    for viewport, schemes in ((DESKTOP, ("light", "dark")), (PHONE, ("dark",))):
        await page.set_viewport_size(viewport)
        assert await overflow_px(page) <= 0, viewport
        for scheme in schemes:
            await page.emulate_media(color_scheme=scheme)
            found += [f"{scheme} {viewport['width']}: {fault}" for fault in await axe_violations(page)]
    assert found == [], "\n".join(found)
    await page.set_viewport_size(NARROW)
    assert await overflow_px(page) <= 0


async def overflow_px(page: Page) -> int:
    """Horizontal overflow of the page in CSS pixels."""
    return await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


async def record_layout_shifts(page: Page) -> None:
    """Start recording layout shifts."""
    await page.evaluate(_RECORD_LAYOUT_SHIFTS)
    await page.evaluate("new Promise((done) => setTimeout(done, 100))")
    await page.evaluate("window.shifts.length = 0")


async def layout_shifts(page: Page) -> tuple[float, list[Any]]:
    """Sum of the shifts since ``record_layout_shifts`` (those after input included), and their sources."""
    found: list[dict[str, Any]] = await page.evaluate("window.shifts")
    return sum(each["value"] for each in found), found


async def tab_order(page: Page, presses: int) -> list[str]:
    """Focused element after each press of Tab: its id, else its label or text."""
    names: list[str] = []
    for _ in range(presses):
        await page.keyboard.press("Tab")
        names.append(
            await page.evaluate(
                "document.activeElement.id || document.activeElement.getAttribute('aria-label') "
                "|| document.activeElement.textContent.trim()"
            )
        )
    return names


def is_subsequence(wanted: Iterable[str], found: Iterable[str]) -> bool:
    """Return whether *found* contains all of *wanted* in order, with or without others between."""
    rest = iter(found)
    return all(each in rest for each in wanted)


def first_number(text: str) -> float:
    """Parse the first number in a text."""
    match = re.search(r"-?[\d,]*\.?\d+", text)
    assert match is not None, text
    return float(match[0].replace(",", ""))
