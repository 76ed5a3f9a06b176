"""Checkpoints as files: where a model's configuration, vocabulary and tensors lie in a directory or in a GGUF file.

Knows nothing of what is done with them; whoever serves, encodes or lists models reads through here.
"""
