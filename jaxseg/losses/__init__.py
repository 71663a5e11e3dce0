"""Pure functions of (logits, labels)."""
