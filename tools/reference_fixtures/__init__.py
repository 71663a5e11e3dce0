"""Figures of the reference, by subject: each function writes one file, or a folder of them."""
