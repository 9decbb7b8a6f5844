"""Image files: decoding, overlays and encoding."""
