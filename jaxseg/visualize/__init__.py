"""Palettes, overlays, charts and the run report."""
