"""Weight files: their paths on this machine, downloads, and checks of their hashes."""

from opera_env.files import file_sha256
from opera_env.weights.cache import Status, fetch, require, status, verify
from opera_env.weights.files import WEIGHT_FILES, WeightFile, cache_dir, get_weight_file
from opera_env.weights.http import download
from opera_env.weights.tensors import load_tensors, tensors_sha256

__all__ = [
    "WEIGHT_FILES",
    "Status",
    "WeightFile",
    "cache_dir",
    "download",
    "fetch",
    "file_sha256",
    "get_weight_file",
    "load_tensors",
    "require",
    "status",
    "tensors_sha256",
    "verify",
]
