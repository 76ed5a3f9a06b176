"""Accounts: created whole or not at all, found by name or id, limits changed one by one."""

from typing import Any

import pytest

from corral.core.accounts import Limits
from corral.core.errors import InvalidRequest
from tests.unit.service.account_fixtures import ClockedServices

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "options",
    [{"credit_nusd": 2**63}, {"limits": Limits(concurrent_runs=0)}, {"limits": Limits(spend_per_day_nusd=-1)}],
)
async def test_an_account_with_invalid_options_is_not_created(
    services: ClockedServices, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest):
        await services.accounts.create("ann", **options)
    assert await services.accounts.list() == []


async def test_an_account_is_found_by_its_unique_name_or_its_id(services: ClockedServices) -> None:
    ann = await services.accounts.create("ann", credit_nusd=5)
    assert ann.available_nusd == 5
    for taken in ("ann", ann.id):
        with pytest.raises(InvalidRequest, match="already"):
            await services.accounts.create(taken)
    assert await services.accounts.find("ann") == await services.accounts.find(ann.id) == ann


async def test_limits_that_are_not_changed_stay(services: ClockedServices) -> None:
    ann = await services.accounts.create("ann", limits=Limits(requests_per_minute=5, concurrent_runs=2))
    after = await services.accounts.change_limits(ann.id, {"concurrent_runs": None, "spend_per_day_nusd": 0})
    assert after.limits == Limits(requests_per_minute=5, spend_per_day_nusd=0)
    assert await services.accounts.find("ann") == after
    with pytest.raises(InvalidRequest, match="no account"):
        await services.accounts.change_limits("acct_nobody", {})
