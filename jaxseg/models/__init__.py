"""Segmentation models as Flax modules."""
