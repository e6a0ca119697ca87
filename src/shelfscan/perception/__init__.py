"""From pixels to placed products."""
