"""The client of the hub, names of repositories, and its errors in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

from opera_env.errors import HubError
from opera_env.imports import needs_extra

_REPO = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")


def is_repo_id(name: str) -> bool:
    """Returns whether a name has the form ``owner/name``."""
    return _REPO.fullmatch(name) is not None


def check_repo_id(name: str) -> str:
    """Returns the name of a repository.

    Raises:
        HubError: If it does not have the form ``owner/name``.
    """
    if not is_repo_id(name):
        raise HubError(f"expected a repository as owner/name, found {name!r}.")
    return name


def make_client(endpoint: str | None, token: str | None) -> Any:
    """Returns a client of ``huggingface_hub``.

    Args:
        endpoint: Address of the hub; by default that of the variable ``HF_ENDPOINT``, or huggingface.co.
        token: Access token; by default that of the variable ``HF_TOKEN`` or of ``hf auth login``.

    Raises:
        MissingPackageError: If huggingface_hub is not installed.
    """
    with needs_extra("hub"):
        from huggingface_hub import HfApi
    return HfApi(endpoint=endpoint, token=token, library_name="opera-env")


@contextmanager
def explained(action: str, repo_id: str) -> Iterator[None]:
    """Turns errors of the hub's client into one line.

    Args:
        action: What is being done, such as ``"pull"``.
        repo_id: The repository.

    Raises:
        HubError: With the reason and the remedy.
    """
    from huggingface_hub import errors

    # The class of all errors of the library for HTTP that this version of huggingface_hub uses.
    http_error: type[Exception] = errors.HTTPError  # pyright: ignore[reportPrivateImportUsage]
    try:
        yield
    except errors.RepositoryNotFoundError as error:  # and repositories that need an access token
        raise HubError(
            f"cannot {action} {repo_id}: expected a repository that you may use, found none. Check its "
            "name; for a private one, run hf auth login or set HF_TOKEN."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"cannot {action} {repo_id}: it has no such revision. Check --revision.") from error
    except (http_error, OSError, ValueError, errors.EntryNotFoundError) as error:
        reason = shorten(" ".join(str(error).split()), 300)
        raise HubError(
            f"cannot {action} {repo_id}: {reason or type(error).__name__}. Check the network and the "
            "variable HF_ENDPOINT."
        ) from error
