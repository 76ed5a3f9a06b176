"""Account commands while ``corral serve`` has the same database open in another process."""

import json
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from tests.cli.harness import CliHarness
from tests.server.test_serve_command import banner_of, serve

PRICES = """
[["corral/demo"]]
since = 2026-01-01
input_usd_per_million = "650"
output_usd_per_million = "2750"
"""
INPUT_NUSD, OUTPUT_NUSD = 650_000, 2_750_000


def ask(url: str, secret: str, body: dict[str, Any]) -> tuple[int, dict[str, Any], str]:
    """Status, answer and the prediction's id."""
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {secret}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer), answer.headers["corral-prediction"]
    except HTTPError as refusal:
        return refusal.code, json.load(refusal), ""


def test_credit_keys_and_bills_are_shared_with_a_running_server(tmp_path: Path, cli: CliHarness) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    body = {"model": "corral/demo", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8}
    with serve("--data-dir", str(tmp_path), CORRAL_PRICES=str(prices)) as process:
        banner = banner_of(process)
        url = next(line.split()[-1] for line in banner.splitlines() if line.startswith("Corral answers at"))
        cli.output("account", "create", "ann")
        secret = cli.output("key", "create", "--account", "ann").strip()

        status, refusal, _ = ask(url, secret, body)
        assert (status, refusal["error"]["code"]) == (402, "insufficient_quota")

        cli.output("account", "credit", "ann", "1")
        status, answer, prediction_id = ask(url, secret, body)
        assert status == 200
        used = answer["usage"]
        cost_nusd = used["prompt_tokens"] * INPUT_NUSD + used["completion_tokens"] * OUTPUT_NUSD

        receipt = json.loads(cli.output("receipt", prediction_id))
        assert (receipt["total_nusd"], receipt["price_version"]) == (cost_nusd, "corral/demo@2026-01-01")
        assert cli.run("verify-receipt", "-", stdin=json.dumps(receipt).encode()).status == 0
        (row,) = cli.json("usage", "--account", "ann", "--by", "account")
        assert (row["predictions"], row["completion_tokens"]) == (1, used["completion_tokens"])
        ann = cli.json("account", "show", "ann")
        assert round(float(ann["available_usd"]) * 10**9) == 10**9 - cost_nusd
        assert ann["held_usd"] == "0"
        assert cli.output("reconcile") == "no difference\n"

        (key,) = cli.json("key", "list", "--account", "ann")
        cli.output("key", "revoke", key["id"])
        status, refusal, _ = ask(url, secret, body)
        assert (status, refusal["error"]["code"]) == (401, "invalid_api_key")
