"""Where the members of a population are computed: which devices, and how on each of them.

Members need nothing of each other, so a population is split over the devices of all hosts without
a word between them. Where the members do not fill a CPU's cores evenly, cores share the batches of
the members: they add up their gradients.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dtql_jax.algorithms.base import Algorithm
from dtql_jax.algorithms.common import ROWS
from dtql_jax.errors import UserError
from dtql_jax.training import hosts

_AXIS = "members"

# Rows of a batch below which a core waits longer for the others than it computes.
_LEAST_ROWS = 128
# Rows that a core could compute in the time of an exchange of gradients.
_ROWS_OF_AN_EXCHANGE = 24


class Placement:
    """P members on some devices, the same number of places on each.

    Where P does not fill the places, the last ones compute the last member again.

    Attributes:
      members: P.
      devices: those that are used.
      share: devices that compute their members together, each with rows of every batch; 1 where
        each device has members of its own.
      per_device: places on each, the same ones on those that share.
      together: whether a device computes its members as one vmapped program, or one after the
        other. A CPU does the latter: a batched matrix product is slower there than its parts.
      own: the members on this host's devices, a slice of the P.
    """

    def __init__(
        self,
        members: int,
        devices: Sequence[jax.Device] | None = None,
        together: bool | None = None,
        share: int = 1,
    ) -> None:
        """Places `members` on `devices`, by default all of all hosts.

        Args:
          members: P.
          devices: that may be used.
          together: see above; None: as the platform has it best.
          share: devices of one host for each member; of an algorithm that is `by_rows`.

        Raises:
          UserError: a host would have no member.
          ValueError: more devices are to share a member than there are.
        """
        devices = list(devices or jax.devices())
        self.members, self.share, self._allowed = members, share, devices
        if share > len(devices):
            raise ValueError(f"each member on {share} devices; found {len(devices)}")
        self.per_device = _places_on_each(members, len(devices), share)
        used = -(-members // self.per_device) * share
        self.devices = spread_over_hosts(devices, used)
        self.together = devices[0].platform != "cpu" if together is None else together
        self._mesh = Mesh(np.array(self.devices).reshape(-1, share), (_AXIS, ROWS))
        owners = self.devices[::share]
        here = [i for i, d in enumerate(owners) if d.process_index == jax.process_index()]
        # whether some of the devices are another host's
        self._beyond = len(here) < len(owners)
        first, last = here[0] * self.per_device, (here[-1] + 1) * self.per_device
        self.own = slice(first, min(last, members))

    @property
    def places(self) -> int:
        """Members computed, those that only fill the devices among them: P rounded up."""
        return self.per_device * (len(self.devices) // self.share)

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
        """Inverse of `put`: [places, ...] -> [P, ...], each member on one device."""
        if self.share > 1:
            return self._owners.take(self.localise(tree))
        return tree if self.places == self.members else self._take_whole(tree)

    def read(self, array: Any) -> np.ndarray:
        """[places, ...] on the devices -> [P, ...] on this host, the members of others too."""
        if self._beyond:
            return hosts.gather(array, tiled=True)[: self.members]
        return np.asarray(self.take(array))

    def local(self) -> "Placement":
        """The placement of this host's own members, each on one device."""
        return self._owners if self._beyond or self.share > 1 else self

    @functools.cached_property
    def _owners(self) -> "Placement":
        local = copy.copy(self)
        local.__dict__.pop("_take_whole", None)
        owners = self.devices[:: self.share]
        local.devices = [d for d in owners if d.process_index == jax.process_index()]
        local.members, local.share = self.own.stop - self.own.start, 1
        local.own, local._beyond = slice(0, local.members), False
        local._mesh = Mesh(np.array(local.devices).reshape(-1, 1), (_AXIS, ROWS))
        return local

    def acting(self) -> "Placement":
        """Where this host's members choose actions: as `local`, but with all cores of a CPU."""
        if self._allowed[0].platform != "cpu" or jax.process_count() > 1:
            return self.local()
        devices = len(self._allowed)
        # about as many as an evaluation asks of each member at once
        observations = max(10, 128 // self.members)

        def rows(share: int) -> int:
            return _places_on_each(self.members, devices, share) * -(-observations // share)

        share = min(range(1, devices + 1), key=rows)
        return self.local() if share == 1 else Placement(self.members, self._allowed, share=share)

    def localise(self, tree: Any) -> Any:
        """This host's part of arrays [places, ...], as `local` has them; nothing is copied."""
        local = self.local()
        if local is self:
            return tree
        sharding, kept = local._sharding(_AXIS), set(local.devices)
        here = [d for d in self.devices if d.process_index == jax.process_index()]
        places = [i for i, device in enumerate(here) if device in kept]

        def part(array: Any) -> Any:
            # an array's own parts are in the order of the devices
            parts = [array.addressable_data(i) for i in places]
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
            # what devices exchange ends as the same on all that share, so nothing is to be checked
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
        # P rows do not divide among the devices: each gets them all. One program, not one an array
        def take(tree: Any) -> Any:
            return jax.tree.map(lambda x: x[: self.members], tree)

        # a host of several may have a single device, and places left over on it
        alone = len(self.devices) == 1
        return jax.jit(take) if alone else jax.jit(take, out_shardings=self._sharding(None))

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


def _places_on_each(members: int, devices: int, share: int) -> int:
    """Members that each device computes, where `share` devices compute theirs together."""
    return -(-members // (devices // share))


def devices_of_member(algorithm: Algorithm, members: int, batch_size: int, devices: int) -> int:
    """How many of a CPU's `devices` (one a core) are to share each member's batches, 1 or more."""
    most = min(devices, batch_size // _LEAST_ROWS) if algorithm.by_rows else 1

    def rows(share: int) -> int:
        """Of an update, on the device that has most of them."""
        own = batch_size // share + (_ROWS_OF_AN_EXCHANGE if share > 1 else 0)
        return own * _places_on_each(members, devices, share)

    return min((n for n in range(1, most + 1) if batch_size % n == 0), key=rows, default=1)


def place(algorithm: Algorithm, members: int, batch_size: int) -> Placement:
    """The placement of a run: on a CPU whose cores the members do not fill, cores share batches.

    Not so on several hosts, where every core would wait for a network, nor on accelerators, which
    are not filled by one member.
    """
    devices = jax.devices()
    shared = devices[0].platform == "cpu" and jax.process_count() == 1
    number = devices_of_member(algorithm, members, batch_size, len(devices)) if shared else 1
    return Placement(members, devices, share=number)


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
