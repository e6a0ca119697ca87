"""Measures the shipped detector, recogniser and readers on labelled data; nothing here changes what they do."""
