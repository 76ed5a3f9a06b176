"""Commands that start the server, check this machine and manage its models."""
