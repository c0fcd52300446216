"""Request → Answer, over the wire."""
