"""``from_pretrained`` and ``push_to_hub`` for what can be saved to a folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from tempfile import TemporaryDirectory

from opera_env.hub.client import is_repo_id
from opera_env.hub.pull import pull_folder
from opera_env.hub.push import push_folder


def pretrained_folder(
    name_or_folder: Path | str, revision: str | None = None, endpoint: str | None = None
) -> Path | str:
    """Returns a folder of this machine, or pulls a repository into the cache; other names stay as they are.

    Args:
        name_or_folder: A folder that exists, or a repository, ``owner/name``; a folder takes precedence.
        revision: Branch, tag or commit of the repository.
        endpoint: Address of the hub.

    Raises:
        HubError: If there is neither such a folder nor such a repository.
    """
    if Path(name_or_folder).is_dir() or not is_repo_id(str(name_or_folder)):
        return name_or_folder
    return pull_folder(str(name_or_folder), revision=revision, endpoint=endpoint)


class HubMixin(ABC):
    """Adds ``push_to_hub`` to a class that can be saved to a folder."""

    @abstractmethod
    def save_pretrained(self, folder: Path) -> None:
        """Writes the object to a folder, from which ``from_pretrained`` makes it again."""

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        licence: str | None = None,
        token: str | None = None,
        endpoint: str | None = None,
    ) -> str:
        """Pushes the object to the hub; see :func:`opera_env.hub.push_folder`.

        Returns:
            The hash of the commit.
        """
        with TemporaryDirectory() as temporary:
            folder = Path(temporary)
            self.save_pretrained(folder)
            return push_folder(
                folder, repo_id, private=private, licence=licence, token=token, endpoint=endpoint
            )
