"""Readers of checkpoint files: configuration, vocabulary and tensors in a Transformers directory or a GGUF file."""
