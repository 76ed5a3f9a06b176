"""Use cases: no HTTP, no SQL, no tensors."""
