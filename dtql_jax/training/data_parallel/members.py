"""Assignment of a population's members to the devices of all hosts.

Members do not communicate, so a population is split over the devices. On a CPU each core is a
device; where the members do not fill the cores evenly, cores split the batches of each member and
add up their gradients.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dtql_jax.errors import UserError
from dtql_jax.training import hosts
from dtql_jax.training.data_parallel.rows import ROWS
from dtql_jax.types import Transition

if TYPE_CHECKING:
    from dtql_jax.algorithms.base import Algorithm

_MEMBERS = "members"  # mesh axis
# A batch is shared by cores that get at least this many rows each ...
_LEAST_ROWS = 128
# ... if adding up the gradients, which takes as long as computing this many rows, pays off ...
_ROWS_OF_AN_EXCHANGE = 24
# ... which it does not for larger networks (IDQL's, FQL's): a single program spreads their
# large matrix products over the cores by itself.
_MOST_BYTES = 7e6


class Placement:
    """Assignment of P members to devices, the same number of slots on each device.

    Where P does not fill the slots, the last ones repeat the last member.

    Attributes:
      members: P.
      devices: devices in use.
      share: devices that compute their members together, each with a part of the rows of every
        batch; 1 where each device has its own members.
      per_device: slots on each device; devices that share have the same members in them.
      together: whether a device computes its members as one vmapped program, or one after the
        other. A CPU does the latter: a batched matrix product is slower there than its parts.
      own: slice of the P members that are on this host's devices.
    """

    def __init__(
        self,
        members: int,
        devices: Sequence[Any] | None = None,
        together: bool | None = None,
        share: int = 1,
    ) -> None:
        """Places `members` on `devices`, by default all of all hosts; see the attributes.

        Raises:
          UserError: a host would have no member.
          ValueError: `share` is larger than the number of devices.
        """
        devices = list(devices or jax.devices())
        self.members, self.share, self._allowed = members, share, devices
        if share > len(devices):
            raise ValueError(f"each member on {share} devices; found {len(devices)}")
        self.per_device = _slots(members, len(devices), share)
        used = -(-members // self.per_device) * share
        self.devices = spread_over_hosts(devices, used)
        self.together = devices[0].platform != "cpu" if together is None else together
        self._mesh = Mesh(np.array(self.devices).reshape(-1, share), (_MEMBERS, ROWS))
        owners = self.devices[::share]
        here = [i for i, d in enumerate(owners) if d.process_index == jax.process_index()]
        self._several_hosts = len(here) < len(owners)
        first, last = here[0] * self.per_device, (here[-1] + 1) * self.per_device
        self.own = slice(first, min(last, members))

    @property
    def places(self) -> int:
        """Number of slots, P rounded up to fill the devices."""
        return self.per_device * (len(self.devices) // self.share)

    def put(self, tree: Any) -> Any:
        """Puts arrays [P, ...] on the devices, as [places, ...]."""

        def fill(array: Any) -> Any:
            if isinstance(array, jax.Array) and not array.is_fully_addressable:
                if self.places == self.members:
                    return array
                array = array.addressable_data(0)
            idle = self.places - self.members
            return jnp.concatenate([array, jnp.stack([array[-1]] * idle)]) if idle else array

        return self._put(jax.tree.map(fill, tree), self._sharding(_MEMBERS))

    def fill(self, array: np.ndarray) -> np.ndarray:
        """Pads an array of the host, [P, ...] -> [places, ...], by repeating its last row."""
        idle = self.places - self.members
        return np.concatenate([array, np.repeat(array[-1:], idle, axis=0)]) if idle else array

    def copy(self, tree: Any) -> Any:
        """Puts arrays on every device, undivided."""
        return self._put(tree, self._sharding(None))

    def take(self, tree: Any) -> Any:
        """Inverse of `put`: [places, ...] -> [P, ...], each member on one device."""
        if self.share > 1:
            return self._owners.take(self.localise(tree))
        return tree if self.places == self.members else self._first_members(tree)

    def read(self, array: Any) -> np.ndarray:
        """Copies [places, ...] to this host, as [P, ...], with the members of other hosts."""
        if self._several_hosts:
            return hosts.gather(array, tiled=True)[: self.members]
        return np.asarray(self.take(array))

    def local(self) -> "Placement":
        """The placement of this host's own members, each on one device."""
        return self._owners if self._several_hosts or self.share > 1 else self

    @functools.cached_property
    def _owners(self) -> "Placement":
        local = copy.copy(self)
        local.__dict__.pop("_first_members", None)
        owners = self.devices[:: self.share]
        local.devices = [d for d in owners if d.process_index == jax.process_index()]
        local.members, local.share = self.own.stop - self.own.start, 1
        local.own, local._several_hosts = slice(0, local.members), False
        local._mesh = Mesh(np.array(local.devices).reshape(-1, 1), (_MEMBERS, ROWS))
        return local

    def acting(self) -> "Placement":
        """The placement for choosing actions: as `local`, but with all cores of a CPU."""
        if self._allowed[0].platform != "cpu" or jax.process_count() > 1:
            return self.local()
        devices = len(self._allowed)
        # about as many as an evaluation asks of each member at once
        observations = max(10, 128 // self.members)

        def rows(share: int) -> int:
            return _slots(self.members, devices, share) * -(-observations // share)

        share = min(range(1, devices + 1), key=rows)
        return self.local() if share == 1 else Placement(self.members, self._allowed, share=share)

    def localise(self, tree: Any) -> Any:
        """This host's part of arrays [places, ...], placed as in `local`; nothing is copied."""
        local = self.local()
        if local is self:
            return tree
        sharding, kept = local._sharding(_MEMBERS), set(local.devices)
        here = [d for d in self.devices if d.process_index == jax.process_index()]
        indices = [i for i, device in enumerate(here) if device in kept]

        def part(array: Any) -> Any:
            # an array's shards are in the order of the devices
            parts = [array.addressable_data(i) for i in indices]
            if len(parts) == 1:
                return parts[0]
            shape = (local.places, *array.shape[1:])
            return jax.make_array_from_single_device_arrays(shape, sharding, parts)

        return jax.tree.map(part, tree)

    def map_members(
        self,
        function: Callable[..., Any],
        in_axes: tuple[int | None, ...],
        donate: tuple[int, ...] = (),
    ) -> Any:
        """Jits the function of all members, given the function of one.

        Args:
          function: function of one member; returns a pytree of arrays.
          in_axes: 0 for an argument [places, ...] of `put`, None for one of `copy`.
          donate: numbers of the arguments whose memory may be reused for the result.

        Returns:
          A function of the same arguments; its result has the axis of members in front.
        """
        local = self._on_one_device(function, in_axes)
        if len(self.devices) > 1:
            specs = tuple(PartitionSpec(_MEMBERS) if a == 0 else PartitionSpec() for a in in_axes)
            # check_vma: the devices that share a batch end with equal results, which JAX cannot see
            local = jax.shard_map(
                local,
                mesh=self._mesh,
                in_specs=specs,
                out_specs=PartitionSpec(_MEMBERS),
                check_vma=False,
            )
        return jax.jit(local, donate_argnums=donate)

    def _on_one_device(self, function: Callable[..., Any], in_axes: tuple[int | None, ...]) -> Any:
        """The function of the members of one device."""
        if self.together and self.per_device > 1:
            return jax.vmap(function, in_axes=in_axes)

        def member(arguments: tuple[Any, ...], i: Any) -> Any:
            index = functools.partial(jax.lax.dynamic_index_in_dim, index=i, keepdims=False)
            pairs = zip(arguments, in_axes, strict=True)
            return function(*(jax.tree.map(index, x) if axis == 0 else x for x, axis in pairs))

        def one_by_one(*arguments: Any) -> Any:
            if self.per_device == 1:
                # without a loop a member is computed exactly as in a run of its own
                return jax.tree.map(lambda x: x[None], member(arguments, 0))
            return jax.lax.map(lambda i: member(arguments, i), jnp.arange(self.per_device))

        return one_by_one

    def _sharding(self, axis: str | None) -> Any:
        if len(self.devices) == 1:
            return self.devices[0]
        return NamedSharding(self._mesh, PartitionSpec(axis) if axis else PartitionSpec())

    def _put(self, tree: Any, sharding: Any) -> Any:
        if not self._several_hosts:
            return jax.device_put(tree, sharding)

        def put(array: Any) -> Any:
            if isinstance(array, jax.Array) and not array.is_fully_addressable:
                # restored arrays are already sharded, or replicated
                if array.sharding.is_equivalent_to(sharding, array.ndim):
                    return array
                array = array.addressable_data(0)
            if not isinstance(array, jax.Array):
                array = np.asarray(array)
            return jax.make_array_from_callback(array.shape, sharding, lambda i: array[i])

        return jax.tree.map(put, tree)

    @functools.cached_property
    def _first_members(self) -> Any:
        # P does not divide among the devices, so each gets all rows
        def take(tree: Any) -> Any:
            return jax.tree.map(lambda x: x[: self.members], tree)

        single = len(self.devices) == 1
        return jax.jit(take) if single else jax.jit(take, out_shardings=self._sharding(None))


def _slots(members: int, devices: int, share: int) -> int:
    """Members that each device computes, where `share` devices compute theirs together."""
    return -(-members // (devices // share))


def place(algorithm: "Algorithm", members: int, batch_size: int, sample: Transition) -> Placement:
    """The placement of a run: on a CPU whose cores the members do not fill, cores share batches.

    Several hosts do not share batches, because every core would wait for the network, nor do
    accelerators. `sample` is any transitions [n, ...] of the sizes O and A.
    """
    devices = jax.devices()
    one_cpu = devices[0].platform == "cpu" and jax.process_count() == 1
    share = devices_of_member(members, batch_size, len(devices)) if one_cpu else 1
    if share > 1 and not 0 < trained_bytes(algorithm, sample) <= _MOST_BYTES:
        share = 1
    return Placement(members, devices, share=share)


def trained_bytes(algorithm: "Algorithm", sample: Transition) -> int:
    """Bytes of the parameters in a state's `TrainState`s, whose gradients would be exchanged."""
    from dtql_jax.algorithms.train_state import TrainState  # which imports this package

    state = jax.eval_shape(algorithm.init, jax.eval_shape(lambda: jax.random.key(0)), sample)
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, TrainState))
    params = [node.params for node in nodes if isinstance(node, TrainState)]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))


def devices_of_member(members: int, batch_size: int, devices: int) -> int:
    """Number of a CPU's `devices` (one a core) that share each member's batches, at least 1."""

    def rows(share: int) -> int:
        """Rows of an update on the device that has most of them."""
        own = batch_size // share + (_ROWS_OF_AN_EXCHANGE if share > 1 else 0)
        return own * _slots(members, devices, share)

    most = min(devices, batch_size // _LEAST_ROWS)
    return min((n for n in range(1, most + 1) if batch_size % n == 0), key=rows, default=1)


def spread_over_hosts(devices: list[Any], count: int) -> list[Any]:
    """Chooses `count` devices, equally many on each host or one more; UserError if too few."""
    by_host: dict[int, list[Any]] = {}
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
