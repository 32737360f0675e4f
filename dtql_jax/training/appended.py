"""A file that only grows, of a run that must not end because a disk is full for a while."""

import os
from pathlib import Path


class Appended:
    """Appends whole records to a file; what cannot be written is kept, and written later.

    Attributes:
      path: of the file.
      problem: why something is kept back; "" where all is written.
    """

    def __init__(self, path: Path) -> None:
        """Opens a file, made if it does not exist, to append to what it holds.

        Raises:
          OSError: it cannot be opened.
        """
        self.path, self.problem = path, ""
        # unbuffered: a process that is killed leaves all that was appended
        self._file = path.open("r+b" if path.exists() else "x+b", buffering=0)
        self._whole = self._file.seek(0, os.SEEK_END)  # bytes of whole records
        self._kept = b""  # records that are not in the file yet

    def append(self, record: bytes) -> None:
        """Writes a record, or keeps it back."""
        self._kept += record
        self._write()

    def flush(self) -> None:
        """Tries again to write what is kept back."""
        if self._kept and not self._file.closed:
            self._write()

    def _write(self) -> None:
        # one write for a record: a process killed here leaves it whole, or torn at the file's end
        try:
            self._file.seek(self._whole)
            self._file.truncate()
            while self._kept:
                written = self._file.write(self._kept)
                self._whole += written
                self._kept = self._kept[written:]
        except OSError as error:
            self.problem = f"{self.path} cannot be written: {error.strerror}"
        else:
            self.problem = ""

    def close(self) -> None:
        """Tries once more and closes."""
        if not self._file.closed:
            self._write()
            self._file.close()
