"""Webhook deliveries that are due, and signing secrets."""
