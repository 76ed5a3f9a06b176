"""Keys on the command line: the secret is printed once, options are stored, ids are used instead of secrets."""

import pytest

from tests.cli.harness import CliHarness


def test_key_secret_is_printed_on_stdout_only(cli: CliHarness) -> None:
    cli.output("account", "create", "ann")
    done = cli.run("key", "create", "--account", "ann", "--name", "laptop")
    secret = done.stdout.decode().strip()
    assert secret.startswith("ck_")
    assert "shown only once" in done.stderr.decode()
    assert secret not in done.stderr.decode()
    assert secret not in cli.output("key", "list")
    assert secret not in cli.output("key", "list", "--json")
    stored = b"".join(path.read_bytes() for path in cli.data_dir.iterdir())
    assert secret.encode() not in stored


def test_key_create_options_are_stored(cli: CliHarness) -> None:
    cli.output("account", "create", "ann")
    cli.output(
        "key", "create", "--account", "ann", "--scope", "read", "--scope", "admin", "--model", "Meta/Llama-2-7b-chat",
        "--expires", "2100-01-31", "--spend-limit", "0.5", "--privacy",
    )  # fmt: skip
    (key,) = cli.json("key", "list", "--account", "ann")
    assert key["scopes"] == ["admin", "read"]
    assert key["models"] == ["meta/llama-2-7b-chat"]
    assert (key["expires_at"], key["spend_limit_usd"]) == ("2100-01-31T00:00:00Z", "0.5")
    assert (key["privacy"], key["state"], key["spent_usd"]) == (True, "active", "0")


def test_default_key_has_inference_and_read_scopes_for_all_models_without_expiry(cli: CliHarness) -> None:
    cli.output("account", "create", "ann")
    cli.output("key", "create", "--account", "ann")
    (key,) = cli.json("key", "list")
    assert (key["scopes"], key["models"], key["expires_at"]) == (["inference", "read"], None, None)
    assert (key["spend_limit_usd"], key["privacy"]) == (None, False)


def test_keys_are_listed_for_one_account_or_all(cli: CliHarness) -> None:
    for name in ("ann", "bob"):
        cli.output("account", "create", name)
        cli.output("key", "create", "--account", name, "--name", f"of {name}", "--expires", "30d")
    header, anns, bobs = (line.split("\t") for line in cli.output("key", "list").splitlines())
    assert header == ["id", "name", "account", "state", "terms", "spent"]
    assert anns[1:4] == ["of ann", "ann", "active"]
    assert bobs[4].startswith("inference, read; until ")
    assert [key["name"] for key in cli.json("key", "list", "--account", "bob")] == ["of bob"]


def test_a_revoked_key_stays_in_the_list(cli: CliHarness) -> None:
    cli.output("account", "create", "ann")
    cli.output("key", "create", "--account", "ann")
    (key,) = cli.json("key", "list")
    assert cli.output("key", "revoke", key["id"]) == f"{key['id']}  key: revoked\n"
    (revoked,) = cli.json("key", "list")
    assert revoked["state"] == "revoked"
    cli.output("key", "revoke", key["id"])
    assert cli.json("key", "list") == [revoked]


def test_secret_given_instead_of_an_id_is_not_printed(cli: CliHarness) -> None:
    said = cli.error("key", "revoke", "ck_pasted-by-mistake", status=2)
    assert "pasted" not in said
    assert "corral key list" in said
    assert "There is no key 'key_nobody'" in cli.error("key", "revoke", "key_nobody")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--scope", "everything"),
        ("--expires", "soon"),
        ("--expires", "2026-02-30"),
        ("--expires", "20260101"),
        ("--expires", "-1d"),
        ("--spend-limit", "0.0000000001"),
        ("--spend-limit", "-1"),
    ],
)
def test_invalid_option_creates_no_key(cli: CliHarness, option: str, value: str) -> None:
    cli.output("account", "create", "ann")
    assert option in cli.error("key", "create", "--account", "ann", option, value, status=2)
    assert cli.json("key", "list") == []


@pytest.mark.parametrize("when", ["2020-01-01", "0d"])
def test_key_that_is_already_expired_is_rejected(cli: CliHarness, when: str) -> None:
    cli.output("account", "create", "ann")
    assert "The expiry is in the past" in cli.error("key", "create", "--account", "ann", "--expires", when)
