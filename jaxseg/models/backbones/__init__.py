"""Backbones: images to a tuple of feature maps."""
