"""A model on disk: its manifest, the store that holds it, and what runs it."""
