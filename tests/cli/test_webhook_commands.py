"""Webhooks on the command line: delivery log, replay, secrets."""

from corral.core.prediction import Webhook, WebhookEvent
from corral.core.webhooks import DeliveryState
from corral.store.store import Store
from corral.store.webhooks import outbox
from tests.cli.harness import CliHarness
from tests.contract.store.books import NOON, Books

HOOK = Webhook(url="https://example.com/hook?of=ann", events=frozenset({WebhookEvent.COMPLETED}))


def delivered(cli: CliHarness, **how: object) -> tuple[str, str]:
    """One prediction of Ann's that was told to be over, as a server does it; its id and the delivery's."""
    account, key = cli.create_account()

    async def work(store: Store) -> tuple[str, str]:
        books = Books(store, account, key)
        prediction = await books.settle(await books.claim(webhook=HOOK))
        (due,) = await store.read(lambda c: outbox.due(c, now_ms=NOON))
        (leased,) = await store.write(lambda c: outbox.lease(c, [due.id], now_ms=NOON, until_ms=NOON + 1))
        await store.write(lambda c: outbox.finish(c, leased, at_ms=NOON + 1500, **how))
        return prediction.id, due.id

    return cli.with_store(work)


def test_webhook_log_lists_the_result_of_each_delivery(cli: CliHarness) -> None:
    prediction_id, delivery_id = delivered(cli, state=DeliveryState.FAILED, status=503)
    header, row = (line.split("\t") for line in cli.output("webhooks", "list").splitlines())
    assert header == ["id", "prediction", "event", "state", "attempts", "last", "created", "url"]
    shown = [delivery_id, prediction_id, "completed", "failed", "1", "503", "2026-01-01T12:00:00Z", HOOK.url]
    assert row == shown
    (document,) = cli.json("webhooks", "list", "--account", "Ann", "--prediction", prediction_id)
    assert (document["id"], document["state"], document["attempts"]) == (delivery_id, "failed", 1)
    assert (document["last_status"], document["last_error"]) == (503, None)
    assert document["ended_at"] == "2026-01-01T12:00:01Z"
    assert cli.json("webhooks", "list", "--prediction", "unknown") == []


def test_replay_makes_a_delivery_due_again(cli: CliHarness) -> None:
    _, delivery_id = delivered(cli, state=DeliveryState.DELIVERED, status=200)
    assert cli.output("webhooks", "replay", delivery_id) == f"{delivery_id}: due now\n"
    (document,) = cli.json("webhooks", "list")
    assert (document["state"], document["ended_at"]) == ("pending", None)
    assert "There is no delivery 'msg_x'" in cli.error("webhooks", "replay", "msg_x")


def test_webhook_secret_is_printed_alone_and_changes_only_by_rotation(cli: CliHarness) -> None:
    cli.output("account", "create", "ann")
    secret = cli.output("webhooks", "secret", "--account", "ann")
    assert secret.startswith("whsec_")
    assert secret.count("_") == secret.count("\n") == 1
    assert cli.output("webhooks", "secret", "--account", "ann") == secret
    rotated = cli.run("webhooks", "rotate", "--account", "ann")
    assert b"24 hours" in rotated.stderr
    assert rotated.stdout.decode() == cli.output("webhooks", "secret", "--account", "ann") != secret
    assert "No account is called 'bob'" in cli.error("webhooks", "secret", "--account", "bob")
    stored = b"".join(path.read_bytes() for path in cli.data_dir.iterdir())
    assert secret.strip().encode() not in stored
