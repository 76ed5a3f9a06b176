"""Models as data: the served names and their weights, prices and pages."""
