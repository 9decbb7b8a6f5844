"""Ways to run an artefact; `base` is the protocol, each other module one implementation."""
