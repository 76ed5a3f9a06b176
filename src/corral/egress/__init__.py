"""Requests to addresses that callers name. Nothing else in Corral makes any."""
