"""SQLite and PostgreSQL backends: connections, migrations, error translation."""
