"""Checks of rate, spend and concurrency limits before a run. The account's row must be locked."""

import math
from typing import Final

from sqlalchemy import Connection, RowMapping, bindparam, func, select, text

from corral.core.accounts import ApiKey
from corral.core.errors import InsufficientCredit, InvalidRequest, RateLimited
from corral.core.pricing import usd
from corral.store.books.accounts import spending_day, spent
from corral.store.schema import RUNNING, predictions

WINDOW_MS: Final = 60_000
_RETRY_AFTER_S: Final = 1
"""Retry-After for the limit of concurrent runs: it is unknown when a run will end."""

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


def check_model_concurrency(connection: Connection, account_id: str, model: str, *, limit: int) -> None:
    """Refuse a run if the account has *limit* runs of the model.

    Raises:
        RateLimited: the limit is reached.
    """
    running = connection.execute(_RUNNING_OF_MODEL, {"account_id": account_id, "model": model}).scalar_one()
    if running >= limit:
        raise RateLimited(
            f"The account has {running} concurrent runs of {model}; its limit is {limit}.",
            retry_after_s=_RETRY_AFTER_S,
        )


def check_rates(connection: Connection, account: RowMapping, *, tokens: int, now_ms: int) -> None:
    """Check the account's limits of concurrent runs, and of requests and tokens in the last minute.

    A running prediction counts with the most tokens that it can use.

    Args:
        connection: the transaction's connection.
        account: the locked row of the account.
        tokens: most tokens that the run can use, prompt and completion.
        now_ms: current time.

    Raises:
        RateLimited: a limit is reached; ``retry_after_s`` is when a request can fit again.
        InvalidRequest: *tokens* exceeds the account's limit per minute.
    """
    _check_concurrency(connection, account)
    _check_requests(connection, account, now_ms)
    _check_tokens(connection, account, tokens, now_ms)


def check_money(account: RowMapping, key: ApiKey, *, hold_nusd: int, max_cost_nusd: int | None, now_ms: int) -> None:
    """Check that credit, spend limits and *max_cost_nusd* cover a run's worst-case cost. Other holds count as spent.

    Raises:
        InsufficientCredit: the message names the limit and both amounts.
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
    """Check that a scoped token's spend limit covers a run's worst-case cost.

    Raises:
        InsufficientCredit: the message contains both amounts.
    """
    _cover(hold_nusd, left_nusd, f"${{left}} is left of the token's spend limit of ${usd(limit_nusd)}")


def _cover(hold_nusd: int, left_nusd: int, which: str) -> None:
    if hold_nusd > left_nusd:
        left = which.format(left=usd(max(0, left_nusd)))
        raise InsufficientCredit(f"This run may cost up to ${usd(hold_nusd)}, but {left}.")


def _check_concurrency(connection: Connection, account: RowMapping) -> None:
    limit = account["concurrent_runs"]
    if limit is None:
        return
    running = connection.execute(_RUNNING, {"account_id": account["id"]}).scalar_one()
    if running >= limit:
        raise RateLimited(
            f"The account has {running} concurrent runs; its limit is {limit}.", retry_after_s=_RETRY_AFTER_S
        )


def _check_requests(connection: Connection, account: RowMapping, now_ms: int) -> None:
    limit = account["requests_per_minute"]
    if limit is None:
        return
    recent = {"account_id": account["id"], "since_ms": now_ms - WINDOW_MS, "skipped": limit - 1}
    oldest_ms = connection.execute(_NTH_LAST, recent).scalar_one_or_none()
    if oldest_ms is not None:
        raise RateLimited(
            f"The account made {limit} requests in the last minute, which is its limit.",
            retry_after_s=_seconds_until(oldest_ms + WINDOW_MS, now_ms),
        )


def _check_tokens(connection: Connection, account: RowMapping, tokens: int, now_ms: int) -> None:
    limit = account["tokens_per_minute"]
    if limit is None:
        return
    if tokens > limit:
        raise InvalidRequest(
            f"This run may need {tokens} tokens, but the account's limit is {limit} per minute. Request fewer new"
            " tokens."
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
                f"This run may need {tokens} tokens, but {max(0, limit - used)} are left of the account's limit of "
                f"{limit} per minute.",
                retry_after_s=_seconds_until(created_at_ms + WINDOW_MS, now_ms),
            )


def _seconds_until(then_ms: int, now_ms: int) -> int:
    return max(1, math.ceil((then_ms - now_ms) / 1000))
