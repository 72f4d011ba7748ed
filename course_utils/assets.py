"""Where the course's files are, and whether they are what they should be.

Embedded assets lie in `data/`, each with its sha256 in `data/SHA256SUMS`. Two environment
variables name folders with copies of public files, for rooms without a network:
COURSE_DATA_MIRROR for datasets, COURSE_MODEL_MIRROR for hub models (folder = hub id).
"""

import hashlib
import os
import socket
import urllib.parse
import urllib.request
from functools import cache
from pathlib import Path

from course_utils.errors import AssetError

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"


def sha256(path: Path) -> str:
    """The file's sha256 as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(path: Path) -> dict[str, str]:
    """Read a list of checksums as `sha256sum` writes it: file name → digest."""
    if not path.is_file():
        raise AssetError(f"the list of checksums {path} is missing: get the course's files again")
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines if line)}


@cache
def embedded(name: str) -> Path:
    """The path of an embedded file such as "tickets.csv", after checking its sha256.

    Raises:
        AssetError: the file is missing or was changed.
    """
    return verified(DATA, name, DATA / "SHA256SUMS", "run `git checkout -- data`")


def verified(folder: Path, name: str, manifest: Path, remedy: str) -> Path:
    """The path of `folder / name` if its sha256 is the manifest's; otherwise `AssetError`."""
    path = folder / name
    expected = read_manifest(manifest).get(name)
    if expected is None:
        raise AssetError(f"{name} is not listed in {manifest}; {remedy} or rebuild the list")
    if not path.is_file():
        raise AssetError(f"the file {path} is missing; to get it back, {remedy}")
    if (found := sha256(path)) != expected:
        raise AssetError(
            f"the file {path} is not the one expected (sha256 {found[:12]}…, should be "
            f"{expected[:12]}…); to get the right one, {remedy}"
        )
    return path


def data_mirror() -> Path | None:
    """The folder of public datasets that COURSE_DATA_MIRROR names, if it is set."""
    return _mirror("COURSE_DATA_MIRROR")


def model_source(name: str) -> str:
    """A hub model's id, or its folder in COURSE_MODEL_MIRROR if that is set."""
    mirror = _mirror("COURSE_MODEL_MIRROR")
    if mirror is None:
        return name
    if not (mirror / name).is_dir():
        raise AssetError(
            f"the model {name!r} is not in COURSE_MODEL_MIRROR ({mirror}); put its files into "
            f"{mirror / name}, or unset the variable to download it"
        )
    return str(mirror / name)


def require_hub(name: str) -> None:
    """Raise `AssetError` at once if a model must come from the hub and the hub is out of reach.

    The hub's own library would try again and again for most of a minute.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        here = Path(name).is_dir() or isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:  # the library that loads it will say what is wrong with the name
        return
    if here or urllib.request.getproxies():  # a proxy finds its own way
        return
    host = urllib.parse.urlparse(constants.ENDPOINT).hostname
    try:
        socket.create_connection((host or "", 443), timeout=10).close()
    except OSError as error:
        raise AssetError(
            f"the model {name!r} could not be loaded: {host} cannot be reached ({error}). The "
            "profile full needs a network (or a copy of the model that COURSE_MODEL_MIRROR points "
            'to); check the connection, or set PROFILE = "quick"'
        ) from error


def _mirror(variable: str) -> Path | None:
    value = os.environ.get(variable)
    if not value:
        return None
    if not Path(value).is_dir():
        raise AssetError(f"{variable} is {value!r}, which is not a folder; correct or unset it")
    return Path(value)


def write_manifest() -> None:
    """Write `data/SHA256SUMS` anew, for maintainers who changed a file on purpose."""
    listed, not_ours = (".csv", ".safetensors", ".json"), {"download", "downloads"}
    found = (path for path in DATA.rglob("*") if path.suffix in listed)
    files = [path for path in found if not not_ours & set(path.relative_to(DATA).parts)]
    lines = [f"{sha256(path)}  {path.relative_to(DATA).as_posix()}\n" for path in sorted(files)]
    (DATA / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
    embedded.cache_clear()
