"""Looking at the engine's state without touching it: health, freshness, pictures."""
