"""Dashboard start page: server state, credit and limits, latency, usage as chart and table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from starlette.responses import Response

from corral.core.accounts import Account, ApiKey
from corral.core.pricing import NUSD_PER_USD, usd
from corral.service.accounts.usage import Spend
from corral.web.dashboard.breakdown import BY, MEASURES, Breakdown, By, Measure, break_down
from corral.web.dashboard.layout import draw
from corral.web.filters import read_filters
from corral.web.pages import Pages, Visit

_SPANS: Final = ("7", "30", "90")
"""Choices for the number of days in the chart."""
_SPAN_TEXTS: Final = {"7": "7 days", "30": "30 days", "90": "90 days"}
_MEASURE_TEXTS: Final[Mapping[Measure, str]] = {
    "cost": "Cost in dollars",
    "tokens": "Tokens, in and out",
    "predictions": "Predictions",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    name: str
    text: str
    share: int | None
    """Percentage used; None if it is not shown."""


class DashboardPages:
    """The page, and its part that refreshes."""

    def __init__(self, pages: Pages) -> None:
        """Add the routes."""
        self._pages = pages
        self._console = pages.dependencies.console
        pages.get("/dashboard", self.page)
        pages.get("/dashboard/figures", self.figures)

    async def page(self, visit: Visit) -> Response:
        """``GET /dashboard``."""
        figures = await self._figures(visit)
        asked = read_filters(visit.request.query_params, {"by": BY, "measure": MEASURES, "days": _SPANS})
        days = self._console.days(int(asked.chosen.get("days", "30")))
        by = cast("By", asked.chosen.get("by", "model"))
        used = await self._console.usage(visit.signed_in, days=len(days))
        names = await self._names(visit, by)
        usage = break_down(used, days=days, by=by, label=lambda name: names.get(name, name))
        usual = "cost" if usage.total.cost_nusd else "tokens"
        measure = cast("Measure", asked.chosen.get("measure", usual))
        values = {
            **figures,
            "usage": usage,
            "choices": (
                ("by", "By", [(each, each) for each in BY]),
                ("measure", "Show", list(_MEASURE_TEXTS.items())),
                ("days", "Days", list(_SPAN_TEXTS.items())),
            ),
            "chosen": {"by": by, "measure": measure, "days": str(len(days))},
            "ignored": asked.ignored,
            "chart_title": f"{_MEASURE_TEXTS[measure]} a day by {by}",
            "chart": chart(usage, measure),
        }
        return draw(self._pages, visit, "dashboard.html", values)

    async def figures(self, visit: Visit) -> Response:
        """``GET /dashboard/figures``: the part that refreshes."""
        return draw(self._pages, visit, "figures.html", await self._figures(visit))

    async def _figures(self, visit: Visit) -> dict[str, Any]:
        caller = visit.signed_in
        account = await self._console.account(caller)
        spend = await self._console.spend(caller)
        return {
            "load": self._console.load(caller),
            "account": account,
            "spend": spend,
            "limits": _limits(account, spend),
            "latency": await self._console.latency(caller),
        }

    async def _names(self, visit: Visit, by: By) -> dict[str, str]:
        if by != "key":
            return {}
        return key_names(await self._console.keys(visit.signed_in))


def key_names(keys: Sequence[ApiKey]) -> dict[str, str]:
    """Display name of each key by id; keys with the same name show their id."""
    count = Counter(key.name for key in keys)
    return {key.id: key.name if count[key.name] == 1 else f"{key.name} ({key.id})" for key in keys}


def chart(usage: Breakdown, measure: Measure) -> dict[str, Any]:
    """Chart data; costs as floats, since pixels need no more precision."""
    divisor = NUSD_PER_USD if measure == "cost" else 1
    return {
        "measure": measure,
        "days": usage.days,
        "series": [
            {"label": part.label, "values": [each.of(measure) / divisor for each in part.days]} for part in usage.parts
        ],
    }


def _limits(account: Account, spend: Spend) -> list[_Limit]:
    limits = account.limits
    found: list[_Limit] = []
    for name, limit_nusd, spent_nusd in (
        ("Spend limit a day", limits.spend_per_day_nusd, spend.today_nusd),
        ("Spend limit a month", limits.spend_per_month_nusd, spend.this_month_nusd),
    ):
        if limit_nusd is not None:
            counted_nusd = spent_nusd + spend.held_nusd
            share = 100 if limit_nusd == 0 else min(100, 100 * counted_nusd // limit_nusd)
            text = f"${usd(counted_nusd)} of ${usd(limit_nusd)}"
            found.append(_Limit(name=name, text=text, share=share))
    for name, limit in (
        ("Requests a minute", limits.requests_per_minute),
        ("Tokens a minute", limits.tokens_per_minute),
        ("Runs at once", limits.concurrent_runs),
    ):
        if limit is not None:
            found.append(_Limit(name=name, text=f"at most {limit:,}", share=None))
    return found
