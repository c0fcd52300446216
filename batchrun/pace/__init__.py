"""Wrappers round one call; each knows `Complete`, none knows another."""
