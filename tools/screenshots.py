"""Take the pictures in ``docs/images``: ``make screenshots``. Needs Debian's chromium; starts its own server.

The pages show real runs of the demo model through every API.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

ROOT: Final = Path(__file__).parents[1]
IMAGES: Final = ROOT / "docs" / "images"
MODEL: Final = "meta/llama-2-70b-chat"
MOST_BYTES: Final = 150_000
SIZE: Final[ViewportSize] = {"width": 1280, "height": 860}
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}
PLAIN: Final = {
    "examples": f"/{MODEL}/examples",
    "readme": f"/{MODEL}/readme",
    "versions": f"/{MODEL}/versions",
    "predictions": "/p",
    "dashboard": "/dashboard",
    "keys": "/dashboard/keys",
    "webhooks": "/dashboard/webhooks",
    "accounts": "/dashboard/accounts",
}
"""Pages that need no interaction before the picture."""
RUNS: Final = 12
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
QUESTIONS: Final = ("What is Corral?", "What is a token?", "What is a llama?", "Hello!")
ASKED: Final = "What is a token?"


@contextmanager
def server(data_dir: Path) -> Generator[tuple[str, str, str]]:
    """Run a server with the demo model; yields its URL, API key and sign-in link."""
    command = [sys.executable, "-m", "corral", "serve", "--port", "0", "--data-dir", str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        assert process.stdout is not None
        try:
            banner = ""
            while "Ctrl-C" not in banner:
                banner += process.stdout.readline()
            link = re.search(r"(http\S+)(/sign-in#\S+)", banner)
            key = re.search(r'"Authorization: Bearer ([^"]+)"', banner)
            assert link is not None, banner
            assert key is not None, banner
            yield link[1], key[1], link[1] + link[2]
        finally:
            process.terminate()


def post(url: str, key: str, body: object) -> None:
    """Send a request to an API; the pages show its result."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - our own server
    urllib.request.urlopen(request, timeout=60).read()  # noqa: S310 - our own server


def fill(url: str, key: str) -> None:
    """Create usage for the dashboard."""
    for number in range(RUNS):
        question = QUESTIONS[number % len(QUESTIONS)]
        messages = [{"role": "user", "content": question}]
        size = ("7b", "13b", "70b")[number % 3]
        post(f"{url}/v1/chat/completions", key, {"model": f"meta-llama/Llama-2-{size}-chat-hf", "messages": messages})
        post(f"{url}/v1/inference/{MODEL}", key, {"input": f"[INST] {question} [/INST]"})
        post(f"{url}/v1/models/{MODEL}/predictions", key, {"input": {"prompt": question}})


def run(page: Page, url: str) -> None:
    """Run a prompt on the model's page and wait for the answer."""
    page.goto(f"{url}/{MODEL}")
    expect(page.locator("[data-playground]")).to_have_attribute("data-ready", "yes")
    page.fill("#in-prompt", ASKED)
    page.click("#run")
    expect(page.locator("#told")).to_have_text("Done.")


def shoot(page: Page, name: str) -> None:
    """Take one picture."""
    path = IMAGES / f"{name}.png"
    page.mouse.move(0, 0)
    page.screenshot(path=path, animations="disabled")
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)} {size / 1000:.0f} kB")
    assert size <= MOST_BYTES, f"{path.name} is larger than {MOST_BYTES} bytes"


def look_around(browser: Browser, url: str, link: str) -> None:
    """Take every picture in both themes."""
    context = browser.new_context(viewport=SIZE)
    page = context.new_page()
    page.goto(link)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(SIZE)
        page.goto(url)
        shoot(page, f"home-{scheme}")
        run(page, url)
        shoot(page, f"model-{scheme}")
        page.get_by_role("link", name="API", exact=True).click()
        expect(page.locator("[data-code]")).to_have_attribute("data-ready", "yes")
        page.locator("#door-replicate").scroll_into_view_if_needed()
        shoot(page, f"api-{scheme}")
        page.goto(f"{url}/p")
        page.locator("main table a[href^='/p/']").first.click()
        shoot(page, f"prediction-{scheme}")
        for name, path in PLAIN.items():
            page.goto(url + path)
            page.wait_for_load_state("networkidle")
            shoot(page, f"{name}-{scheme}")
        page.set_viewport_size(PHONE)
        page.goto(f"{url}/{MODEL}")
        shoot(page, f"phone-{scheme}")
    context.close()
    stranger = browser.new_page(viewport=SIZE)
    for scheme in SCHEMES:
        stranger.emulate_media(color_scheme=scheme)
        stranger.goto(f"{url}/sign-in")
        shoot(stranger, f"sign-in-{scheme}")
    stranger.close()


def main() -> int:
    """Take all pictures again."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("There is no chromium on this machine.", file=sys.stderr)
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (url, key, link), sync_playwright() as driver:
        fill(url, key)
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-quic", "--disable-background-networking"]
        )
        look_around(browser, url, link)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
