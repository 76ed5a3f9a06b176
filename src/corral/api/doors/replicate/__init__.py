"""Replicate's HTTP API, version 1, as its official clients speak it."""
