"""What an endpoint says when it refuses, and of its limits: kinds of failure, waits, quotas."""
