"""Result → disk: what is done, and what is left. The journal is the one truth."""
