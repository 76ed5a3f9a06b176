"""What a checkpoint is, found out without serving it: for ``corral model check``."""
