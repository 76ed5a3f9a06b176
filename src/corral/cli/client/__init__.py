"""How commands reach a server: its address, its key, requests, streams."""
