"""Pages of an account: predictions, usage, API keys, webhooks; and of all accounts, for administrators."""
