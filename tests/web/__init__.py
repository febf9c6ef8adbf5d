"""The web face over real services in a temporary ledger, through Flask's test client."""
