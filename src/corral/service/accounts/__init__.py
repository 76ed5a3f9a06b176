"""Accounts, API keys, scoped tokens, usage reports, sign-ins and uploaded files."""
