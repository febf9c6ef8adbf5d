"""What tests share: builders, clocks, servers. Small real implementations, no mocks."""
