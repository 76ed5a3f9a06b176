"""Models on this machine: which are served, from which files, on which engine."""
