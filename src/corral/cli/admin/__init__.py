"""Commands for accounts, keys, usage, audits and webhooks."""
