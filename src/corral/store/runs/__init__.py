"""Predictions: claims, settlements, queries and event logs."""
