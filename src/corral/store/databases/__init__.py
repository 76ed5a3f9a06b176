"""SQLite and PostgreSQL: connections, migrations, failures, what differs between the two."""
