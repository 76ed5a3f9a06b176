"""Training of the shipped demo model: corpus, tokenizer, training, export."""
