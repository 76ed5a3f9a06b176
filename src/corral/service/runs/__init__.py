"""Predictions from request to settlement."""
