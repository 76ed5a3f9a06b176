"""What an account and a key may use: the checks before a run. The account is locked, so what is seen here stays so."""

import math
from typing import Final

from sqlalchemy import Connection, RowMapping, bindparam, func, select, text

from corral.core.accounts import ApiKey
from corral.core.errors import InsufficientCredit, InvalidRequest, RateLimited
from corral.core.pricing import usd
from corral.store.books.accounts import spending_day, spent
from corral.store.schema import RUNNING, predictions

WINDOW_MS: Final = 60_000
_SOON_S: Final = 1
"""When a run will end nobody knows; a caller may well ask again after this long."""

_RUNNING: Final = (
    select(func.count())
    .select_from(predictions)
    .where(predictions.c.account_id == bindparam("account_id"), text(RUNNING))
)
_RUNNING_OF_MODEL: Final = _RUNNING.where(predictions.c.model == bindparam("model"))
_RECENT: Final = select(predictions.c.created_at_ms, predictions.c.counted_tokens).where(
    predictions.c.account_id == bindparam("account_id"), predictions.c.created_at_ms > bindparam("since_ms")
)
_NTH_LAST: Final = (
    _RECENT.with_only_columns(predictions.c.created_at_ms)
    .order_by(predictions.c.created_at_ms.desc())
    .limit(1)
    .offset(bindparam("skipped"))
)
_TOKENS: Final = _RECENT.with_only_columns(func.coalesce(func.sum(predictions.c.counted_tokens), 0))
_OLDEST_FIRST: Final = _RECENT.order_by(predictions.c.created_at_ms)


def check_model_places(connection: Connection, account_id: str, model: str, *, limit: int) -> None:
    """Refuse a run of a model of which the account has as many as it may.

    Raises:
        RateLimited: and when to ask again.
    """
    running = connection.execute(_RUNNING_OF_MODEL, {"account_id": account_id, "model": model}).scalar_one()
    if running >= limit:
        raise RateLimited(
            f"The account has {running} runs of {model} at once already, and may have {limit}.", retry_after_s=_SOON_S
        )


def check_rates(connection: Connection, account: RowMapping, *, tokens: int, now_ms: int) -> None:
    """Refuse a run for which the account has no place, request or tokens left for now.

    Requests and tokens are those claimed in the last minute; what is still running counts with its worst case.

    Args:
        connection: of the transaction.
        account: the locked row.
        tokens: the run's worst case, prompt and completion.
        now_ms: the time.

    Raises:
        RateLimited: and when there will be room, unless others are faster.
        InvalidRequest: so many tokens will never fit the account's limit.
    """
    _check_places(connection, account)
    _check_requests(connection, account, now_ms)
    _check_tokens(connection, account, tokens, now_ms)


def check_money(account: RowMapping, key: ApiKey, *, hold_nusd: int, max_cost_nusd: int | None, now_ms: int) -> None:
    """Refuse a run whose worst case is not covered. Running holds count as spent.

    Raises:
        InsufficientCredit: names what does not cover it, and both amounts.
    """
    if hold_nusd == 0:
        return
    that_day_nusd, that_month_nusd = spent(account, spending_day(account, now_ms))
    held_nusd = account["held_nusd"]
    if max_cost_nusd is not None:
        _cover(hold_nusd, max_cost_nusd, "the request's max_cost is ${left}")
    if not account["unlimited"]:
        _cover(hold_nusd, account["available_nusd"], "the account has ${left} of credit left")
    for limit_nusd, spent_nusd, name in (
        (account["spend_per_day_nusd"], that_day_nusd + held_nusd, "account's limit per day"),
        (account["spend_per_month_nusd"], that_month_nusd + held_nusd, "account's limit per month"),
        (key.spend_limit_nusd, key.spent_nusd, "API key's spend limit"),
    ):
        if limit_nusd is not None:
            _cover(hold_nusd, limit_nusd - spent_nusd, f"${{left}} is left of the {name} of ${usd(limit_nusd)}")


def check_token(*, hold_nusd: int, limit_nusd: int, left_nusd: int) -> None:
    """Refuse a run whose worst case the token that asks for it may not spend any more.

    Raises:
        InsufficientCredit: names both amounts.
    """
    _cover(hold_nusd, left_nusd, f"${{left}} is left of the token's spend limit of ${usd(limit_nusd)}")


def _cover(hold_nusd: int, left_nusd: int, which: str) -> None:
    if hold_nusd > left_nusd:
        left = which.format(left=usd(max(0, left_nusd)))
        raise InsufficientCredit(f"This run may cost up to ${usd(hold_nusd)}, but {left}.")


def _check_places(connection: Connection, account: RowMapping) -> None:
    limit = account["concurrent_runs"]
    if limit is None:
        return
    running = connection.execute(_RUNNING, {"account_id": account["id"]}).scalar_one()
    if running >= limit:
        raise RateLimited(
            f"The account has {running} runs at once already, and may have {limit}.", retry_after_s=_SOON_S
        )


def _check_requests(connection: Connection, account: RowMapping, now_ms: int) -> None:
    limit = account["requests_per_minute"]
    if limit is None:
        return
    recent = {"account_id": account["id"], "since_ms": now_ms - WINDOW_MS, "skipped": limit - 1}
    oldest_ms = connection.execute(_NTH_LAST, recent).scalar_one_or_none()
    if oldest_ms is not None:
        raise RateLimited(
            f"The account made {limit} requests in the last minute, as many as it may.",
            retry_after_s=_seconds_until(oldest_ms + WINDOW_MS, now_ms),
        )


def _check_tokens(connection: Connection, account: RowMapping, tokens: int, now_ms: int) -> None:
    limit = account["tokens_per_minute"]
    if limit is None:
        return
    if tokens > limit:
        raise InvalidRequest(
            f"This run may need {tokens} tokens, but the account may use {limit} per minute: ask for fewer new tokens."
        )
    recent = {"account_id": account["id"], "since_ms": now_ms - WINDOW_MS}
    used = int(connection.execute(_TOKENS, recent).scalar_one())
    excess = used + tokens - limit
    if excess <= 0:
        return
    for created_at_ms, counted_tokens in connection.execute(_OLDEST_FIRST, recent):
        excess -= counted_tokens
        if excess <= 0:
            raise RateLimited(
                f"This run may need {tokens} tokens, but {max(0, limit - used)} are left of the account's {limit} "
                "per minute.",
                retry_after_s=_seconds_until(created_at_ms + WINDOW_MS, now_ms),
            )


def _seconds_until(then_ms: int, now_ms: int) -> int:
    return max(1, math.ceil((then_ms - now_ms) / 1000))
