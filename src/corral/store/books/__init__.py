"""Accounts, API keys, credit, limits and usage."""
