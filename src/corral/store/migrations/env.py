"""The migration environment that Alembic runs for each upgrade, on the connection of `databases.migrate`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
