"""Tests; shared pieces are imported as ``tests.…``."""
