"""Toolboxes, agents, critics and results on the Hugging Face hub: pushed, pulled and checked."""

from opera_env.hub.pretrained import HubMixin, pretrained_folder
from opera_env.hub.pull import pull_folder
from opera_env.hub.push import push_folder

__all__ = ["HubMixin", "pretrained_folder", "pull_folder", "push_folder"]
