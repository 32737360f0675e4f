"""Runs a module as a user for whom the permissions of files hold, also where that user is root.

python -m tests.robustness.without_privilege MODULE ARGUMENT...
"""

import ctypes
import os
import sys

_DROP = 24  # PR_CAPBSET_DROP of linux/prctl.h
_OVERRIDES = (1, 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of linux/capability.h


def main(arguments: list[str]) -> None:
    if os.geteuid() == 0:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        for number in _OVERRIDES:
            if prctl(_DROP, number, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")
    # what the bounding set lacks is lost when another program begins
    os.execv(sys.executable, [sys.executable, "-m", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
