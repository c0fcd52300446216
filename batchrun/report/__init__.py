"""Results → cost summary."""
