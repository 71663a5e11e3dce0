"""Necks: feature maps to feature maps.

A neck is called as `neck(features, train)` with a backbone's tuple of maps, finest first, and returns the tuple that
the heads choose from. Its docstring says their sizes and channels. It takes maps of any size, also such as come of
images whose sides are no multiples of the strides, follows the dtype of the maps, and refuses maps whose channels are
not those of its field `in_channels`.
"""
