"""The database: schema, transactions and queries."""
