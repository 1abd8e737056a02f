"""Speed and memory on this machine, relative to a naive implementation and to a measured lower bound.

Example:
    opera-env bench --only exhaustive scaling
"""
