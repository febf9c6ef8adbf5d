"""The pages' code runs as printed."""
