"""Offline commands: train, validate, evaluate, export and benchmark models."""
