"""One module per schema change; never edited after a release."""
