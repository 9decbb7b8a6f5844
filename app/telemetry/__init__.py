"""Metrics, traces and logs, and the number of available cores."""
