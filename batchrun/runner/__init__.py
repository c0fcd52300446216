"""A run of a job, from what an earlier one left to finished results: preparation, shards, the window of requests, the end."""
