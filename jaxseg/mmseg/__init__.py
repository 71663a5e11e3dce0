"""The way in from MMSegmentation."""
