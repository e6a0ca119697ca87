"""The price reader: rendered tags, training, measuring, export."""
