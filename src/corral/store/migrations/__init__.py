"""Alembic environment and migrations of the schema."""
