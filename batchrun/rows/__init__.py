"""Input file → Row → Request."""
