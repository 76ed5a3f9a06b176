"""Add columns of predictions for more doors: admission time, deadline, webhook, and output as text chunks."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0002_predictions_of_doors"
down_revision = "0001_initial"
branch_labels = None
depends_on = None

_JSON: Final = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Add the columns, and convert each choice's text to a list with one chunk."""
    for name, kind in (
        ("admitted_at_ms", sa.BigInteger()),
        ("deadline_at_ms", sa.BigInteger()),
        ("webhook", _JSON),
        ("notes", _JSON),
    ):
        op.add_column("predictions", sa.Column(name, kind))
    op.create_index("ix_usage_records_model", "usage_records", ["model"])
    _split_outputs()


def _split_outputs() -> None:
    predictions = sa.table("predictions", sa.column("id", sa.Text), sa.column("output", _JSON))
    connection = op.get_bind()
    kept = sa.select(predictions.c.id, predictions.c.output).where(predictions.c.output.is_not(None))
    changes: list[dict[str, Any]] = [
        {"prediction_id": prediction_id, "chunks": [[text] if text else [] for text in output]}
        for prediction_id, output in connection.execute(kept)
    ]
    if changes:
        update = sa.update(predictions).where(predictions.c.id == sa.bindparam("prediction_id"))
        connection.execute(update.values(output=sa.bindparam("chunks", type_=_JSON)), changes)
