"""Runtimes, which run artefacts: `base` is the protocol, and every other module an implementation."""
