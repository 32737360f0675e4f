"""Where the members of a population are computed: which devices, and how on each of them.

Members need nothing of each other, so a population is split over the devices of this process
without a word between them, and several hosts share nothing but a folder.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXIS = "members"


class Placement:
    """P members on some devices, the same number of places on each.

    Where P does not fill the places, the last ones compute the last member again.

    Attributes:
      members: P.
      devices: those that are used.
      per_device: places on each.
      together: whether a device computes its members as one vmapped program, or one after the
        other. A CPU does the latter: a batched matrix product is slower there than its parts.
    """

    def __init__(
        self,
        members: int,
        devices: Sequence[jax.Device] | None = None,
        together: bool | None = None,
    ) -> None:
        """Places `members` on `devices`, by default all of this process."""
        devices = list(devices or jax.local_devices())
        self.members = members
        self.per_device = -(-members // len(devices))
        self.devices = devices[: -(-members // self.per_device)]
        self.together = devices[0].platform != "cpu" if together is None else together
        self._mesh = Mesh(np.array(self.devices), (_AXIS,))

    @property
    def places(self) -> int:
        """Members computed, those that only fill the devices among them: P rounded up."""
        return self.per_device * len(self.devices)

    def put(self, tree: Any) -> Any:
        """Puts arrays [P, ...] on the devices, [places, ...]."""
        return jax.device_put(jax.tree.map(self._fill, tree), self._sharding(_AXIS))

    def fill(self, array: np.ndarray) -> np.ndarray:
        """[P, ...] -> [places, ...] on the host: the last row again where places are left."""
        idle = self.places - self.members
        return np.concatenate([array, np.repeat(array[-1:], idle, axis=0)]) if idle else array

    def copy(self, tree: Any) -> Any:
        """Puts arrays whole on every device."""
        return jax.device_put(tree, self._sharding(None))

    def take(self, tree: Any) -> Any:
        """Inverse of `put`: [places, ...] -> [P, ...]."""
        if self.places == self.members:
            return tree
        return jax.tree.map(lambda x: x[: self.members], tree)

    def spread(
        self,
        function: Callable[..., Any],
        in_axes: tuple[int | None, ...],
        donate: tuple[int, ...] = (),
    ) -> Any:
        """The jitted function of all members, from the function of one.

        Args:
          function: of one member; returns a pytree of arrays.
          in_axes: 0 for an argument [places, ...] of `put`, None for one of `copy`.
          donate: numbers of the arguments whose memory may be used for the result.

        Returns:
          A function of the same arguments; its result has the axis of members in front.
        """
        local = self._local(function, in_axes)
        if len(self.devices) > 1:
            specs = tuple(PartitionSpec(_AXIS) if a == 0 else PartitionSpec() for a in in_axes)
            # nothing is exchanged between devices, so there is nothing to check
            local = jax.shard_map(
                local,
                mesh=self._mesh,
                in_specs=specs,
                out_specs=PartitionSpec(_AXIS),
                check_vma=False,
            )
        return jax.jit(local, donate_argnums=donate)

    def _sharding(self, axis: str | None) -> Any:
        if len(self.devices) == 1:
            return self.devices[0]
        return NamedSharding(self._mesh, PartitionSpec(axis) if axis else PartitionSpec())

    def _fill(self, array: Any) -> Any:
        idle = self.places - self.members
        return jnp.concatenate([array, jnp.stack([array[-1]] * idle)]) if idle else array

    def _local(self, function: Callable[..., Any], in_axes: tuple[int | None, ...]) -> Any:
        """The function of a device's members."""
        if self.per_device == 1:
            # without the axis: a member is computed exactly as a run of its own is
            def single(*arguments: Any) -> Any:
                plain = [
                    jax.tree.map(lambda x: x[0], argument) if axis == 0 else argument
                    for argument, axis in zip(arguments, in_axes, strict=True)
                ]
                return jax.tree.map(lambda x: x[None], function(*plain))

            return single
        if self.together:
            return jax.vmap(function, in_axes=in_axes)

        def one_by_one(*arguments: Any) -> Any:
            rows = [x for x, axis in zip(arguments, in_axes, strict=True) if axis == 0]

            def one(row: list[Any]) -> Any:
                own = iter(row)
                whole = zip(arguments, in_axes, strict=True)
                return function(*(next(own) if axis == 0 else x for x, axis in whole))

            return jax.lax.map(one, rows)

        return one_by_one
