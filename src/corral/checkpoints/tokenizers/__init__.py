"""Vocabularies of checkpoints, checked and in one form, whatever file they come from."""
