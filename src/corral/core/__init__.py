"""Values and rules. Standard library only; knows no HTTP, no SQL and no tensors."""
