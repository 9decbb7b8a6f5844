"""Metrics, traces and logs, and how many cores there are."""
