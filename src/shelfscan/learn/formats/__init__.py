"""Label files as they are exchanged with labelling tools: one module a format, each reads and most write."""
