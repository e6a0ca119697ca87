"""The dashboard: a read-only HTTP API over run folders, its page, and the report of a finished run."""
