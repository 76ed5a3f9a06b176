"""The deployments page in a browser: refresh in place, and drain."""

import pytest
from playwright.async_api import expect

from corral.core.errors import DeploymentInUse
from tests.doors.scripted_deployments import LOADING, READY, ScriptedDeployments, status
from tests.e2e.pages.conftest import Open
from tests.e2e.pages.servers import BrowserTestServer

pytestmark = pytest.mark.anyio


async def test_states_refresh_in_place_and_a_busy_deployment_is_drained(
    live: BrowserTestServer, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = ScriptedDeployments(status("llama", LOADING))
    for name in ("statuses", "status", "load", "unload"):
        monkeypatch.setattr(live.built.deployments, name, getattr(registry, name))
    page = await open_page(live, "/dashboard/deployments", signed_in=True)
    row = page.get_by_role("row").filter(has_text="llama")
    unload = row.get_by_role("button", name="Unload llama")
    await expect(row).to_contain_text("40 %")
    await unload.focus()
    registry.states = {"llama": status("llama", READY)}
    await expect(row).to_contain_text("ready")
    await expect(unload).to_be_focused()
    registry.error = DeploymentInUse("llama", runs=2)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="“llama” is in use")).to_be_visible()
    registry.error = None
    await page.get_by_role("button", name="Drain and unload").click()
    await expect(page.get_by_role("status")).to_contain_text("as soon as its runs are over")
    assert registry.calls == [("unload", "llama", False), ("unload", "llama", True)]
