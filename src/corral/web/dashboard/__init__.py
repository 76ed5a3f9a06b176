"""Pages of an account: its predictions, its usage, its keys; and of all accounts, for who manages them."""
