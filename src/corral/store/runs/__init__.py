"""Predictions from their claim to their settlement, and their event logs."""
