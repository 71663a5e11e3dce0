"""Mergeable metric states."""
