"""One suite per protocol, over every backend."""
