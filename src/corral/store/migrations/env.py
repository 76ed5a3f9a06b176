"""Alembic's entry: it runs this module for each upgrade, with the connection that ``corral.store.migrate`` holds."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
