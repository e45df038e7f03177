"""Networks on the Hugging Face Hub: their addresses, their files, and how those get there and from there.

Only weights in safetensors are downloaded, so that no code of another's can run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tse_refine.errors import InputError
from tse_refine.version import PACKAGE

WEIGHTS, CARD = "model.safetensors", "README.md"  # the files of a model
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_ADDRESS = re.compile(rf"hf:/{{1,2}}(?P<repository>{_REPOSITORY.pattern})(?:@(?P<revision>[^\s@]+))?")


class HubAddress(NamedTuple):
    """Place of a model on the Hub.

    Attributes:
        repository: ``OWNER/NAME``.
        revision: branch, tag or commit; None for the newest.
    """

    repository: str
    revision: str | None

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")


def is_address(given: str | Path) -> bool:
    """Whether a word names a model on the Hub; as a path it has lost one of its slashes.

    >>> is_address("hf://owner/name"), is_address(Path("hf://owner/name@v1")), is_address("runs/demo/best.ckpt")
    (True, True, False)
    """
    return Path(given).as_posix().startswith("hf:/")


def parse_address(given: str | Path) -> HubAddress:
    """Return the address that a word means.

    Args:
        given: ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``.

    Raises:
        InputError: it is neither.

    >>> parse_address(Path("hf://owner/name@v1"))
    HubAddress(repository='owner/name', revision='v1')
    """
    match = _ADDRESS.fullmatch(Path(given).as_posix())
    if match is None:
        raise InputError(
            f"{given} is not an address on the Hugging Face Hub; hf://OWNER/NAME or hf://OWNER/NAME@REVISION is "
            "expected, with a branch, tag or commit as the revision."
        )
    return HubAddress(match["repository"], match["revision"])


def check_repository(name: str) -> None:
    """Reject what is not the name of a repository on the Hub.

    Raises:
        InputError: it is not ``OWNER/NAME``.
    """
    if not _REPOSITORY.fullmatch(name):
        raise InputError(f"{name!r} is not a repository on the Hugging Face Hub; OWNER/NAME is expected.")


def download(address: HubAddress) -> Path:
    """Return the weights of a model on the Hub, from the library's cache where they are there already.

    Without a network, what is in the cache is used as it is.

    Args:
        address: place of the model.

    Raises:
        InputError: there is no such model or revision, it has no weights in safetensors, it is neither in the cache nor
            can be reached, or huggingface_hub is not installed.
    """
    _check_package(f"{address}: a model on the Hugging Face Hub")
    from huggingface_hub import errors, hf_hub_download

    from tse_refine.files.documents import one_line  # which imports YAML: only where a file is read

    try:
        return Path(hf_hub_download(address.repository, WEIGHTS, revision=address.revision, library_name=PACKAGE))
    except errors.LocalEntryNotFoundError:
        reason = "the Hub cannot be reached, and the model is not in the cache. Try again with a network"
    except errors.RevisionNotFoundError:
        reason = f"the model has no revision {address.revision}. Give a branch, tag or commit, or leave it out"
    except errors.RepositoryNotFoundError:  # a gated one is among them
        reason = "there is no such model, or you may not read it. Check the name; `hf auth login` identifies you"
    except errors.EntryNotFoundError:
        reason = f"it has no {WEIGHTS}, and nothing else is read from there; `tse-refine push` uploads one"
    except _failures() as error:
        reason = f"it cannot be downloaded ({one_line(error)}). Try again later"
    raise InputError(f"{address}: {reason}.")


def upload(folder: Path, repository: str, private: bool = False) -> str:
    """Upload a model's folder as one commit, into a repository that is created where it is missing.

    The token is that of ``hf auth login`` or of the environment variable ``HF_TOKEN``.

    Args:
        folder: files to upload.
        repository: ``OWNER/NAME``.
        private: whether a new repository is private.

    Returns:
        Address of the commit.

    Raises:
        InputError: the Hub cannot be reached or rejects the upload, or huggingface_hub is not installed.
    """
    _check_package("An upload to the Hugging Face Hub")
    from huggingface_hub import HfApi

    from tse_refine.files.documents import one_line

    api = HfApi(library_name=PACKAGE)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return str(
            api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"Upload by {PACKAGE}").commit_url
        )
    except _failures() as error:
        raise InputError(
            f"{repository}: the model cannot be uploaded ({one_line(error)}). Check the name, the network, that "
            "`hf auth login` or HF_TOKEN has a token that may write there, and the licence on the card; --output DIR "
            "writes the folder without uploading it."
        ) from error


def _failures() -> tuple[type[Exception], ...]:
    """Return what a request to the Hub may raise: the library's own errors, and those of its client of HTTP.

    Which client that is, releases differ; its errors are bases of the library's.
    """
    from huggingface_hub import errors

    of_client = [kind for kind in errors.HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError"]
    return (
        *of_client,
        errors.LocalTokenNotFoundError,
        errors.OfflineModeIsEnabled,
        errors.FileMetadataError,
        ValueError,
    )


def _check_package(what: str) -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{what} needs huggingface_hub ({error}); install it with `pip install 'tse-refine[hub]'`."
        ) from None
