"""Expected values for tests, computed once by Transformers; see each module for how to run it."""
