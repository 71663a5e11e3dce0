"""Transforms of records."""
