"""Accounts, API keys, scoped tokens, sign-ins and uploaded files."""
