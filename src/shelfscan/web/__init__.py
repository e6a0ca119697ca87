"""Dashboard and HTTP API."""
