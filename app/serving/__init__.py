"""Request handling without HTTP: admission, models in memory, batching and analysis."""
