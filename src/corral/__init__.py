"""Corral: a self-hosted inference cloud for Llama 2 chat."""

__version__ = "0.1.0"
