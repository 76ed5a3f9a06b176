"""Webhook secrets, delivery log and delivery."""
