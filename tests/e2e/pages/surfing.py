"""What tests do in a browser, and what they look for on every page."""

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
"""What 1280 px are at 400 %, where a page must do without scrolling sideways."""
AXE = Path(__file__).parents[2] / "node" / "node_modules" / "axe-core" / "axe.min.js"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_WATCH_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    const at = entry.sources.map((source) => source.node?.id || source.node?.className || source.node?.nodeName);
    window.shifts.push({value: entry.value, at});
  }
}).observe({type: "layout-shift", buffered: true});
"""


@dataclass
class Watch:
    """What a page must never do, as it does it."""

    host: str
    faults: list[str] = field(default_factory=list[str])

    def over(self, context: BrowserContext) -> None:
        """Note every error of a script, every breach of the policy, every request to another host."""
        context.on("weberror", lambda error: self.faults.append(f"error: {error.error}"))
        context.on("console", self._hear)
        context.on("request", self._see)

    def _hear(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "Content-Security-Policy" in message.text:
            self.faults.append(message.text)

    def _see(self, request: Request) -> None:
        if not request.url.startswith((self.host, "data:", "about:", "blob:")):
            self.faults.append(f"request to {request.url}")


async def sign_in(page: Page, url: str) -> None:
    """Have the page's browser signed in; the page itself stays where it is."""
    answer = await page.context.request.post(f"{url}/sign-in", form={"key": SECRET, "next": "/"})
    assert answer.ok, await answer.text()


async def axe(page: Page) -> list[str]:
    """What axe-core finds wrong with the page as it stands, one line each."""
    if not await page.evaluate("'axe' in window"):
        # Evaluated, not added as a script: the page's policy allows no script of a stranger, nor should it.
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


async def all_can_read(page: Page) -> None:
    """Assert that axe-core finds nothing in both themes and on both screens, and that no screen scrolls sideways."""
    await expect(page.locator("h1")).to_have_count(1)
    found: list[str] = []
    for viewport, schemes in ((DESKTOP, ("light", "dark")), (PHONE, ("dark",))):
        await page.set_viewport_size(viewport)
        assert await overflow_px(page) <= 0, viewport
        for scheme in schemes:
            await page.emulate_media(color_scheme=scheme)
            found += [f"{scheme} {viewport['width']}: {fault}" for fault in await axe(page)]
    assert found == [], "\n".join(found)
    await page.set_viewport_size(NARROW)
    assert await overflow_px(page) <= 0


async def overflow_px(page: Page) -> int:
    """By how much the page is wider than its window."""
    return await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


async def watch_shifts(page: Page) -> None:
    """Count from now on by how much what is shown moves by itself."""
    await page.evaluate(_WATCH_SHIFTS)
    await page.evaluate("new Promise((done) => setTimeout(done, 100))")
    await page.evaluate("window.shifts.length = 0")


async def shifts(page: Page) -> tuple[float, list[Any]]:
    """The sum since ``watch_shifts``, right after a key press included; and what moved."""
    found: list[dict[str, Any]] = await page.evaluate("window.shifts")
    return sum(each["value"] for each in found), found


async def tab_order(page: Page, presses: int) -> list[str]:
    """What has the focus after each press of Tab: ids, else names."""
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


def in_order(wanted: Iterable[str], found: Iterable[str]) -> bool:
    """Whether *found* holds all of *wanted* in that order, others between them or not."""
    rest = iter(found)
    return all(each in rest for each in wanted)


def number(text: str) -> float:
    """The first number in a text."""
    match = re.search(r"-?[\d,]*\.?\d+", text)
    assert match is not None, text
    return float(match[0].replace(",", ""))
