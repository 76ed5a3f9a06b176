"""Registry of the commands. Each function imports only its own command, so that commands start quickly."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer

if TYPE_CHECKING:
    from corral.cli.lazy import Load
    from corral.cli.server.doctor import Installation
    from corral.cli.server.pull import LocalModels
    from corral.inspection.report import CheckpointReport
    from corral.service.accounts.accounts import Accounts
    from corral.service.accounts.services import AccountServices
    from corral.service.webhooks.webhooks import Webhooks

T = TypeVar("T")


def _single_command(command: Callable[..., Any]) -> typer.Typer:
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return app


def _auth() -> typer.Typer:
    from corral.cli.client.addressing import connect, login_file, reach
    from corral.cli.inference.auth import auth_commands

    return auth_commands(connect, reach, login_file)


def _chat() -> typer.Typer:
    from corral.cli.client.addressing import open_server
    from corral.cli.inference.chat import chat_command

    return _single_command(chat_command(open_server))


def _models() -> typer.Typer:
    from corral.cli.client.addressing import open_server
    from corral.cli.inference.models import models_command

    return _single_command(models_command(open_server))


def _model() -> typer.Typer:
    from corral.cli.client.addressing import open_server
    from corral.cli.server.model import model_commands

    return model_commands(_open_local_models, open_server, _inspect)


def _pull() -> typer.Typer:
    from corral.cli.server.pull import pull_command

    return _single_command(pull_command(_open_local_models))


def _infer() -> typer.Typer:
    from corral.cli.client.addressing import open_server
    from corral.cli.inference.infer import infer_command

    return _single_command(infer_command(open_server))


def _predictions() -> typer.Typer:
    from corral.cli.client.addressing import open_server, reach
    from corral.cli.inference.predictions import predictions_commands

    return predictions_commands(open_server, reach)


def _deploy() -> typer.Typer:
    from corral.cli.client.addressing import open_server
    from corral.cli.inference.deploy import deploy_commands

    return deploy_commands(open_server)


def _deployments() -> typer.Typer:
    from corral.cli.admin.deployments import deployments_commands
    from corral.cli.client.addressing import open_server

    return deployments_commands(open_server)


def _log() -> typer.Typer:
    from corral.cli.client.addressing import open_server
    from corral.cli.inference.log import log_command

    return _single_command(log_command(open_server))


def _doctor() -> typer.Typer:
    from corral.cli.server.doctor import doctor_command

    return _single_command(doctor_command(_locate))


def _account() -> typer.Typer:
    from corral.cli.admin.account import account_commands

    return account_commands(_run_with_accounts)


def _key() -> typer.Typer:
    from corral.cli.admin.key import key_commands

    return key_commands(_run_with_accounts)


def _webhooks() -> typer.Typer:
    from corral.cli.admin.webhooks import webhook_commands

    return webhook_commands(_run_with_webhooks)


def _usage() -> typer.Typer:
    from corral.cli.admin.usage import usage_command

    return _single_command(usage_command(_run_with_accounts))


def _receipt() -> typer.Typer:
    from corral.cli.admin.audit import receipt_command

    return _single_command(receipt_command(_run_with_accounts))


def _verify_receipt() -> typer.Typer:
    from corral.cli.admin.audit import verify_receipt

    return _single_command(verify_receipt)


def _reconcile() -> typer.Typer:
    from corral.cli.admin.audit import reconcile_command

    return _single_command(reconcile_command(_run_with_accounts))


def _locate() -> "Installation":
    from corral.assembly import survey
    from corral.catalog.catalog import demo_checkpoint
    from corral.cli.server.doctor import Installation
    from corral.settings import load_settings
    from corral.store.key_file import KEY_FILE

    settings = load_settings({})
    return Installation(
        data_dir=settings.data_dir,
        key_file=settings.data_dir / KEY_FILE,
        host=settings.host,
        port=settings.port,
        demo_dir=demo_checkpoint(),
        survey=survey(settings),
    )


def _run_with_accounts(work: "Callable[[AccountServices], Awaitable[T]]") -> T:
    from corral.cli.admin.database import run_with_accounts
    from corral.settings import load_settings

    return run_with_accounts(load_settings({}), work)


def _run_with_webhooks(work: "Callable[[Accounts, Webhooks], Awaitable[T]]") -> T:
    from corral.cli.admin.database import run_with_webhooks
    from corral.settings import load_settings

    return run_with_webhooks(load_settings({}), work)


def _open_local_models(**chosen: object) -> "LocalModels":
    from corral.cli.server.pull import LocalModels
    from corral.settings import load_settings
    from corral.weights import open_library

    settings = load_settings(chosen)
    return LocalModels(library=open_library(settings), quantize=settings.quantize)


def _inspect(given: str, **chosen: object) -> "CheckpointReport":
    from corral.inspection.inspect import inspect_checkpoint
    from corral.settings import load_settings
    from corral.weights import choose_given

    found = choose_given(load_settings(chosen), given)
    return inspect_checkpoint(found.path, chat_format=found.chat_format, suggested=found.suggested_format)


COMMANDS: Final["Mapping[str, Load]"] = {
    "auth": _auth,
    "chat": _chat,
    "infer": _infer,
    "predictions": _predictions,
    "models": _models,
    "model": _model,
    "pull": _pull,
    "deploy": _deploy,
    "deployments": _deployments,
    "log": _log,
    "doctor": _doctor,
    "account": _account,
    "key": _key,
    "webhooks": _webhooks,
    "usage": _usage,
    "receipt": _receipt,
    "verify-receipt": _verify_receipt,
    "reconcile": _reconcile,
}
"""Commands in the order of the help."""
