"""Model artefacts: the manifest, the store and the runtimes."""
