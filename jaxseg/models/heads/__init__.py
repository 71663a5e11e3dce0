"""Decode heads: feature maps to logits."""
