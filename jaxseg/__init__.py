"""jaxseg: semantic segmentation on JAX."""

__version__ = "0.1.0"
