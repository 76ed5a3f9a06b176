"""Pages for people: server-rendered, readable without a script. Knows no SQL and no tensors."""
