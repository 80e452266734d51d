"""Objects in a store: s3://bucket/prefix, gs://, az:// and file:// by the library obstore.

Credentials come from the environment, as that library reads them, and are never printed.
"""

import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from rdkit_vae.errors import BadData, BadInput, StoreFails, in_line
from rdkit_vae.store.tables import MAX_BYTES
from rdkit_vae.system.files import SCHEMES
from rdkit_vae.text import is_plain_name, shown

_AT_ONCE = 16  # requests
_PATIENCE = timedelta(seconds=60)  # with a store that fails
_SILENCE = timedelta(seconds=30)  # until a connection counts as lost
_MOST_REMOVED = 1000  # objects in one request
T = TypeVar("T")


def is_url(text: str | Path) -> bool:
    """Whether a text names a place in an object store rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", str(text)) is not None


class ObjectStore:
    """The objects whose names begin with a prefix.

    Attributes:
        url: the prefix, without a slash at its end.
    """

    def __init__(self, url: str) -> None:
        """Connects to nothing yet.

        Raises:
            BadInput: not such a URL, or the library for it is missing.
        """
        scheme, _, rest = url.partition("://")
        host, *names = rest.rstrip("/").split("/")
        if "@" in host or re.search("[?#]", rest):
            raise BadInput(
                "a URL of a store must not contain credentials or options: set them as variables "
                "of the environment"
            )
        if scheme not in SCHEMES:
            raise BadInput(f"{shown(url)}: unknown scheme; known: {', '.join(SCHEMES)}")
        if not all(map(is_plain_name, [host or "file", *names])) or not rest.strip("/"):
            raise BadInput(f"{shown(url)}: names no place in a store")
        if importlib.util.find_spec("obstore") is None:
            raise BadInput(
                f"{scheme}:// needs obstore: pip install 'rdkit-vae[cloud]' (in a clone: pip "
                "install '.[cloud]')"
            )
        from obstore.exceptions import BaseError

        self.url = url.rstrip("/")
        try:
            self._store = _connected(self.url)
        except (BaseError, OSError, ValueError):
            raise BadInput(f"{shown(url)}: names no place in a store") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectStore, (self.url,)

    def get(self, name: str) -> bytes | None:
        """Returns an object; None if there is none of this name.

        Raises:
            StoreFails: the store does not answer, or refuses.
            BadData: the object is implausibly large.
        """
        import obstore

        with self._named("cannot be read", name):
            try:
                answer = obstore.get(self._store, name)
                if (size := answer.meta["size"]) <= MAX_BYTES:
                    return bytes(answer.bytes())
            except FileNotFoundError:
                return None
        raise BadData(f"{self.url}/{name}: {size:,} bytes are too many")

    def put(self, name: str, data: bytes) -> None:
        """Writes an object, or replaces it.

        Raises:
            StoreFails: the store does not answer, or refuses.
        """
        import obstore

        with self._named("cannot be written", name):
            obstore.put(self._store, name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Writes an object unless there is one; returns whether it is now this one.

        Raises:
            StoreFails: the store does not answer, or refuses.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._named("cannot be written", name):
            try:
                obstore.put(self._store, name, data, mode="create")
            except AlreadyExistsError:  # perhaps this very one, whose answer was lost
                return self.get(name) == data
        return True

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects; one that is not there is no error.

        Raises:
            StoreFails: the store does not answer, or refuses.
        """
        import obstore

        names = list(names)
        for at in range(0, len(names), _MOST_REMOVED):
            with self._named("cannot be removed", names[at]):
                try:
                    obstore.delete(self._store, names[at : at + _MOST_REMOVED])
                except FileNotFoundError:
                    continue

    def marks(self, place: str = "") -> dict[str, str]:
        """Returns the objects of a folder of the prefix, or a single one.

        Returns:
            By name, a mark that changes with the content.

        Raises:
            StoreFails: the store does not answer, or refuses; there is no such bucket.
            BadData: a name could not be that of a file.
        """
        import obstore

        with self._named("cannot be listed", place):
            try:
                pages = obstore.list(self._store, place or None)
                objects = [each for page in pages for each in page]
                if place and not objects:
                    objects = [obstore.head(self._store, place)]
            except FileNotFoundError:
                return {}
        return self._marked(objects)

    def level(self, folder: str = "") -> tuple[dict[str, str], list[str]]:
        """Returns the objects that lie in a folder itself, as `marks` does, and its subfolders.

        Raises:
            StoreFails, BadData: as `marks`.
        """
        import obstore

        with self._named("cannot be listed", folder):
            try:
                listing = obstore.list_with_delimiter(self._store, folder or None)
            except FileNotFoundError:
                return {}, []
        return self._marked(listing["objects"]), [
            self._plain(name) for name in listing["common_prefixes"]
        ]

    def _marked(self, objects: Sequence[Any]) -> dict[str, str]:
        return {
            self._plain(each["path"]): f"{each['e_tag'] or each['last_modified']} {each['size']}"
            for each in objects
        }

    def _plain(self, name: str) -> str:
        if not all(map(is_plain_name, name.split("/"))):
            raise BadData(f"{self.url}: {shown(name)} could not be the name of a file")
        return name

    @contextmanager
    def _named(self, what: str, name: str) -> Iterator[None]:
        """Turns the library's errors into one line without the request, which may hold secrets."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError, ValueError) as cause:
            place = "/".join(part for part in (self.url, name) if part)
            raise StoreFails(f"{place}: {what} ({_reason(cause)})") from None


def at_once(work: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
    """Yields `work(name)` for each name, in order, of which several are done at the same time."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(work, names)


def _connected(url: str) -> Any:
    from obstore.store import from_url

    if url.startswith("file://"):
        return from_url(url, mkdir=True)
    retry: Any = {"retry_timeout": _PATIENCE, "max_retries": 10}
    # A store on this machine or network, which the user names in the environment, may have no TLS.
    client: Any = {
        **{"connect_timeout": _SILENCE, "read_timeout": _SILENCE, "allow_http": True},
        "timeout": timedelta(hours=1),
    }
    return from_url(url, client_options=client, retry_config=retry)


_REASONS: Mapping[str, str] = {
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": "access denied",
    "InvalidAccessKeyId": "the credentials are not accepted",
    "SignatureDoesNotMatch": "the credentials are not accepted",
    "PermissionDeniedError": "access denied",
    "UnauthenticatedError": "the credentials are not accepted",
    "GenericError": "the store does not answer",
}


def _reason(error: Exception) -> str:
    """The cause in a few words: what the server says, or else the kind of error."""
    text = str(error)
    if code := re.search(r"<Code>(\w{1,40})</Code>", text):
        return _REASONS.get(code[1], code[1])
    if status := re.search(r"status code: (\d{3} [\w ]{1,40})", text):
        return status[1]
    kind = type(error).__name__
    return _REASONS.get(kind, in_line(error) if isinstance(error, OSError) else kind)
