"""Model architectures: one file each, with what its configuration means and how GGUF files hold it."""
