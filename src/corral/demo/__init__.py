"""The demo model that ships with Corral: weights, tokenizer and card, no code."""
