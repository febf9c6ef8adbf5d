"""API → real queue → real worker → real receiver, all as processes of their own."""
