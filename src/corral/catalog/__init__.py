"""Models as data: which names are served, and what stands behind each."""
