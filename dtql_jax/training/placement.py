"""Where the members of a population are computed: which devices, and how on each of them.

Members need nothing of each other, so a population is split over the devices of all hosts without
a word between them.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dtql_jax.errors import UserError
from dtql_jax.training import hosts

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
      own: the members on this host's devices, a slice of the P.
    """

    def __init__(
        self,
        members: int,
        devices: Sequence[jax.Device] | None = None,
        together: bool | None = None,
    ) -> None:
        """Places `members` on `devices`, by default all of all hosts.

        Raises:
          UserError: a host would have no member.
        """
        devices = list(devices or jax.devices())
        self.members = members
        self.per_device = -(-members // len(devices))
        self.devices = spread_over_hosts(devices, -(-members // self.per_device))
        self.together = devices[0].platform != "cpu" if together is None else together
        self._mesh = Mesh(np.array(self.devices), (_AXIS,))
        here = [i for i, d in enumerate(self.devices) if d.process_index == jax.process_index()]
        # whether some of the devices are another host's
        self._beyond = len(here) < len(self.devices)
        first, last = here[0] * self.per_device, (here[-1] + 1) * self.per_device
        self.own = slice(first, min(last, members))

    @property
    def places(self) -> int:
        """Members computed, those that only fill the devices among them: P rounded up."""
        return self.per_device * len(self.devices)

    def put(self, tree: Any) -> Any:
        """Puts arrays [P, ...] on the devices, [places, ...]."""
        return self._put(jax.tree.map(self._fill, tree), self._sharding(_AXIS))

    def fill(self, array: np.ndarray) -> np.ndarray:
        """[P, ...] -> [places, ...] on the host: the last row again where places are left."""
        idle = self.places - self.members
        return np.concatenate([array, np.repeat(array[-1:], idle, axis=0)]) if idle else array

    def copy(self, tree: Any) -> Any:
        """Puts arrays whole on every device."""
        return self._put(tree, self._sharding(None))

    def take(self, tree: Any) -> Any:
        """Inverse of `put`: [places, ...] -> [P, ...]."""
        if self.places == self.members:
            return tree
        if self._beyond:
            return self._take_whole(tree)
        return jax.tree.map(lambda x: x[: self.members], tree)

    def read(self, array: Any) -> np.ndarray:
        """[places, ...] on the devices -> [P, ...] on this host, the members of others too."""
        if self._beyond:
            return hosts.gather(array, tiled=True)[: self.members]
        return np.asarray(self.take(array))

    def local(self) -> "Placement":
        """The placement of this host's own members."""
        if not self._beyond:
            return self
        local = copy.copy(self)
        local.devices = [d for d in self.devices if d.process_index == jax.process_index()]
        local.members = self.own.stop - self.own.start
        local.own, local._beyond = slice(0, local.members), False
        local._mesh = Mesh(np.array(local.devices), (_AXIS,))
        return local

    def localise(self, tree: Any) -> Any:
        """This host's part of arrays [places, ...], as `local` has them; nothing is copied."""
        if not self._beyond:
            return tree
        local = self.local()
        sharding = local._sharding(_AXIS)

        def part(array: Any) -> Any:
            shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
            parts = [shard.data for shard in shards]
            if len(parts) == 1:
                return parts[0]
            shape = (local.places, *array.shape[1:])
            return jax.make_array_from_single_device_arrays(shape, sharding, parts)

        return jax.tree.map(part, tree)

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

    def _put(self, tree: Any, sharding: Any) -> Any:
        if not self._beyond:
            return jax.device_put(tree, sharding)

        def put(array: Any) -> Any:
            if isinstance(array, jax.Array) and not array.is_fully_addressable:
                # of a checkpoint, which lies as it is to lie, or whole on every device
                if array.sharding.is_equivalent_to(sharding, array.ndim):
                    return array
                array = array.addressable_data(0)
            if not isinstance(array, jax.Array):
                array = np.asarray(array)
            return jax.make_array_from_callback(array.shape, sharding, lambda i: array[i])

        return jax.tree.map(put, tree)

    @functools.cached_property
    def _take_whole(self) -> Any:
        # P rows do not divide among the devices: each gets them all
        def take(tree: Any) -> Any:
            return jax.tree.map(lambda x: x[: self.members], tree)

        return jax.jit(take, out_shardings=self._sharding(None))

    def _fill(self, array: Any) -> Any:
        if self._beyond and isinstance(array, jax.Array) and not array.is_fully_addressable:
            if self.places == self.members:
                return array
            array = array.addressable_data(0)
        idle = self.places - self.members
        return jnp.concatenate([array, jnp.stack([array[-1]] * idle)]) if idle else array

    def _local(self, function: Callable[..., Any], in_axes: tuple[int | None, ...]) -> Any:
        """The function of a device's members."""
        if self.per_device == 1:
            # without the axis: a member is computed as a run of its own is
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


def spread_over_hosts(devices: list[jax.Device], count: int) -> list[jax.Device]:
    """`count` of the devices, equally many on each host or one more; UserError: too few for all."""
    by_host: dict[int, list[jax.Device]] = {}
    for device in devices:
        by_host.setdefault(device.process_index, []).append(device)
    if count < len(by_host):
        raise UserError(
            f"the members fill the devices of {count} hosts; found {len(by_host)}: start fewer "
            "processes, or train more members"
        )
    share, more = divmod(count, len(by_host))
    own = (by_host[host] for host in sorted(by_host))
    return [d for i, each in enumerate(own) for d in each[: share + (i < more)]]
