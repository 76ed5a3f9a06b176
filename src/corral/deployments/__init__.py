"""Deployments: local models, their files, engines and memory."""
