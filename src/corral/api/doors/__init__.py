"""The public APIs ("doors"): one package each."""
