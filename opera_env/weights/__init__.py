"""Weight files: where they belong, where they come from, whether they are whole."""

from opera_env.weights.cache import Status, fetch, require, status, verify
from opera_env.weights.files import KNOWN, WeightFile, cache_dir, known
from opera_env.weights.http import download
from opera_env.weights.tensors import digest_of, load_tensors, sha256_of

__all__ = [
    "KNOWN",
    "Status",
    "WeightFile",
    "cache_dir",
    "digest_of",
    "download",
    "fetch",
    "known",
    "load_tensors",
    "require",
    "sha256_of",
    "status",
    "verify",
]
