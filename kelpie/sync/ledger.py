"""What a mirror knows: which state of each file the bucket has, what is not stored yet, what disappeared.

Pure bookkeeping; times are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kelpie.sync.source import Signature


class Ledger:
    """The states of files as last stored (or as they were before the start) and as last seen."""

    def __init__(self, baseline: Mapping[str, Signature]) -> None:
        self.stored = dict(baseline)
        self._seen_as = {signature.inode: (relative, signature) for relative, signature in baseline.items()}
        self._unstored_since: dict[str, float] = {}
        self._missing_since: dict[str, float] = {}
        self._latest_loss: dict[str, float] = {}

    @property
    def missing(self) -> list[str]:
        """The stored files that are not on the disk any more."""
        return list(self._missing_since)

    def is_stored(self, relative: str, signature: Signature) -> bool:
        """Say whether the bucket has exactly this state."""
        return self.stored.get(relative) == signature

    def came_whole(self, relative: str, signature: Signature, absent: set[str]) -> bool:
        """Say whether a path is a file that had another name just now: a rename puts it there complete.

        Inode numbers are used again at once, so the number alone proves
        nothing: either the state is the one last seen, or the inode changed
        after its content did, as a rename does and a write does not.
        """
        name, before = self._seen_as.get(signature.inode, (relative, signature))
        if name == relative or name not in absent:
            return False
        return before == signature or signature.ctime_ns > signature.mtime_ns

    def saw(self, files: Mapping[str, Signature]) -> None:
        """Note under which names the inodes are."""
        for relative, signature in files.items():
            self._missing_since.pop(relative, None)
            self._seen_as[signature.inode] = (relative, signature)

    def saw_all(self, files: Mapping[str, Signature]) -> None:
        """Note the same after a look at everything, and drop inodes that are no more."""
        self._seen_as.clear()
        self.saw(files)

    def differs(self, relative: str, now: float) -> None:
        """Note that a file is not stored as it is."""
        self._unstored_since.setdefault(relative, now)

    def settled(self, relative: str) -> None:
        """Note that nothing of this path waits to be stored."""
        self._unstored_since.pop(relative, None)

    def vanished(self, relatives: Iterable[str], now: float) -> None:
        """Note that paths are not on the disk."""
        for relative in relatives:
            self.settled(relative)
            if relative in self.stored and relative not in self._missing_since:
                self._missing_since[relative] = now
                self._latest_loss[_parent(relative)] = now

    def drop(self, relative: str) -> None:
        """Forget a file: its object was deleted, or is left where it is for good."""
        self.stored.pop(relative, None)
        self._missing_since.pop(relative, None)

    def found_again(self, relative: str) -> None:
        """Note that a path is there after all."""
        self._missing_since.pop(relative, None)

    def was_moved(self, relative: str) -> bool:
        """Say whether the very same file is stored under another name now."""
        before = self.stored.get(relative)
        if before is None:
            return False
        name, _ = self._seen_as.get(before.inode, (relative, before))
        return name != relative and self.stored.get(name) == before

    def forget_emptied(self, now: float, wait_s: float) -> list[str]:
        """Drop the files of directories that lost all of several files, and return them: no single deletions.

        A directory that was removed and made again looks just like that.
        """
        beside: dict[str, list[str]] = {}
        for relative in self.stored:
            beside.setdefault(_parent(relative), []).append(relative)
        due = {
            _parent(relative) for relative in self._missing_since if self._has_waited(relative, now, wait_s)
        }
        emptied = [
            relative
            for parent in due
            if len(beside.get(parent, ())) > 1 and all(name in self._missing_since for name in beside[parent])
            for relative in beside[parent]
            if not self.was_moved(relative)
        ]
        for relative in emptied:
            self.drop(relative)
        return emptied

    def deletable(self, now: float, wait_s: float) -> list[str]:
        """Return missing files whose turn has come.

        All that was to be stored when they vanished is stored, and nothing
        else has vanished beside them for `wait_s`: a directory being removed
        loses its files one by one.
        """
        oldest_unstored = min(self._unstored_since.values(), default=now)
        return [
            relative
            for relative, since in self._missing_since.items()
            if oldest_unstored > since and self._has_waited(relative, now, wait_s)
        ]

    def _has_waited(self, relative: str, now: float, wait_s: float) -> bool:
        latest = self._latest_loss.get(_parent(relative), 0.0)
        return now - latest >= wait_s


def _parent(relative: str) -> str:
    return relative.rpartition("/")[0]
