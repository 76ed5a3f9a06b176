"""Commands that ask models and read predictions."""
