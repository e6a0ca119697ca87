"""One small module per backend."""
