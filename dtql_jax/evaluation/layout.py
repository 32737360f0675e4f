"""How the environments that still play are laid out in the policy's batch."""

from typing import NamedTuple

import numpy as np

_BUCKETS = 6


class Layout(NamedTuple):
    """Places of n active slots in a batch of P members times E rows.

    Attributes:
      slots: [P, E], the slot shown in each row; rows beyond a member's active slots repeat
        its first active one, or its slot 0 where none is left.
      member: [n], the member of each active slot.
      column: [n], its column, so that `batch[member, column]` has one row a slot.
    """

    slots: np.ndarray
    member: np.ndarray
    column: np.ndarray


def bucket_sizes(num_envs: int) -> tuple[int, ...]:
    """Returns the batch widths E in use, ascending: num_envs and its halvings to 1/32.

    As episodes end, the batch shrinks through these few widths, rather than through every
    width, so that a jitted policy compiles at most six shapes.
    """
    return tuple(sorted({-(-num_envs // 2**power) for power in range(_BUCKETS)}))


def arrange(active: np.ndarray, members: int, num_envs: int, buckets: tuple[int, ...]) -> Layout:
    """Lays out the active slots; slot k is environment k % num_envs of member k // num_envs.

    Args:
      active: [n] int, ascending.
      members: P.
      num_envs: environments of each member.
      buckets: allowed widths, ascending; the last holds any member's active slots.
    """
    member = active // num_envs
    counts = np.bincount(member, minlength=members)
    first = np.cumsum(counts) - counts
    column = np.arange(active.size) - first[member]
    width = next(size for size in buckets if size >= counts.max(initial=0))
    filler = np.arange(members) * num_envs
    filler[counts > 0] = active[first[counts > 0]]
    slots = np.repeat(filler[:, None], width, axis=1)
    slots[member, column] = active
    return Layout(slots, member, column)
