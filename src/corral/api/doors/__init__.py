"""Dialects of the API. No door knows another."""
