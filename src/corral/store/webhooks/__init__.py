"""Outbox of webhook deliveries, and salts of signing secrets."""
