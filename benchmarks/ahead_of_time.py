"""Compiles training steps for an accelerator that is not there: kernels, bytes, memory.

    pip install "jax-cuda12-plugin[with-cuda]"   # of jaxlib's version; for a TPU, libtpu
    python -m benchmarks.ahead_of_time --target=h100 --seeds=1,20

It compiles as a run on that device would, and runs nothing. It finds programs that do not compile
there, and reports the memory of each, beside the estimate of `training.capacity`. For a GPU it also
counts the kernels that one update of all members launches (a launch takes about a microsecond or
more), and the bytes that they read and write. It measures no time. Without the device, matrix
products are not tuned: they are cuBLAS's (`--xla_gpu_enable_triton_gemm=false`), and not fused.
"""

import os
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from absl import flags

from dtql_jax.commands import cli

# what XLA has to know of the device; NVIDIA's figures of the H100 SXM
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
runtime_version { major: 12 minor: 9 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
# target -> platform, its topology, variables of the process
TARGETS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "h100": (
        "cuda",
        {"topology": "1x1x1", "target_config": _H100},
        {
            "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
            "XLA_FLAGS": "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false",
        },
    ),
    "v5e": (
        "tpu",
        {"topology_name": "v5e:2x2"},
        {
            "TPU_SKIP_MDS_QUERY": "1",
            "TPU_WORKER_HOSTNAMES": "localhost",
            "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        },
    ),
}
UPDATES = 100  # of one call, as on an accelerator
# instructions that are no work of their own
_FREE = ("parameter", "get-tuple-element", "tuple", "bitcast", "constant", "after-all")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4}
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_enum("target", "h100", list(TARGETS), "The device that is compiled for.")
    flags.DEFINE_list(
        "algorithms",
        ["dtql", "plain", "dql", "idql", "dql_kl", "iql", "bc"],
        "Whose training steps; plain: DTQL's plain form.",
    )
    flags.DEFINE_list("batch_sizes", ["256", "2048"], "Transitions in a batch.")
    flags.DEFINE_list("seeds", ["1", "20"], "Members trained at once.")
    flags.DEFINE_string(
        "json", "", "File; by default benchmarks/results/ahead-of-time/TARGET.json."
    )


class Instruction(NamedTuple):
    """One line of a compiled program."""

    shape: str
    opcode: str
    rest: str  # operands and attributes

    def computation(self, attribute: str) -> str:
        """The name of the computation that an attribute holds."""
        found = re.search(rf"{attribute}=%?([\w.\-]+)", self.rest)
        if found is None:
            raise ValueError(f"no {attribute} in {self.rest[:200]}")
        return found[1]


def computations(text: str) -> dict[str, dict[str, Instruction]]:
    """A compiled program's text (HLO) as {computation: {name: instruction}}."""
    found: dict[str, dict[str, Instruction]] = {}
    own: dict[str, Instruction] = {}
    for line in text.splitlines():
        head = re.match(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line)
        if head:
            own = found[head[1]] = {}
        elif parts := _INSTRUCTION.match(line):
            own[parts[1]] = Instruction(*parts.groups()[1:])
    return found


def kernels(program: dict[str, dict[str, Instruction]], name: str) -> Iterator[tuple[str, int]]:
    """(opcode, bytes read and written) of all that a computation launches, every turn of a loop."""
    own = program[name]
    for at in own.values():
        if at.opcode in _FREE or at.opcode.endswith("-done"):
            continue
        if at.opcode == "call":
            yield from kernels(program, at.computation("to_apply"))
        elif at.opcode == "while":
            yield from list(kernels(program, at.computation("body"))) * _turns(at)
        else:
            operands = re.findall(r"%([\w.\-]+)", at.rest.split(")", 1)[0])
            moved = sum(_size(own[operand].shape) for operand in operands if operand in own)
            yield at.opcode, moved + _size(at.shape)


def _turns(loop: Instruction) -> int:
    """How often a loop runs, 1 where that is not known."""
    found = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest)
    return int(found[1]) if found else 1


def _size(shape: str) -> int:
    """Bytes of arrays, "f32[256,3]{1,0}" or a tuple of such; a product's workspace is none."""
    total = 0
    for kind, sizes in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shape):
        number = _BYTES.get(kind, 0)
        for size in filter(None, sizes.split(",")):
            number *= int(size)
        total += 0 if kind == "s8" else number
    return total


def step_body(program: dict[str, dict[str, Instruction]]) -> str:
    """The computation that is one update: of the bodies of loops, the one that launches most."""
    loops = [at for own in program.values() for at in own.values() if at.opcode == "while"]
    bodies = {at.computation("body") for at in loops}
    return max(bodies, key=lambda name: len(list(kernels(program, name))))


def launched(text: str) -> dict[str, float]:
    """Kernels and bytes of one update of a program compiled for a GPU."""
    program = computations(text)
    found = list(kernels(program, step_body(program)))
    return {
        "kernels an update": len(found),
        "of them products": sum(opcode == "custom-call" for opcode, _ in found),
        "MB moved an update": sum(moved for _, moved in found) / 1e6,
    }


def compiled(name: str, batch_size: int, members: int, device: Any) -> tuple[Any, int]:
    """(update of a population, bytes a member that a run reckons with)."""
    from unittest import mock

    import jax
    import numpy as np

    from benchmarks import measure
    from benchmarks.plain_step import plain_dtql
    from dtql_jax.algorithms import make_algorithm
    from dtql_jax.training import capacity, population
    from dtql_jax.training.data_parallel import Placement

    def abstract(tree: Any) -> Any:
        place = jax.sharding.SingleDeviceSharding(device)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)

    algorithm = plain_dtql() if name == "plain" else make_algorithm(name, {})
    placement = Placement(members, [device], together=True)
    data = measure.random_data(*measure.SIZES.get(batch_size, measure.SIZES[256]))
    sample = jax.tree.map(lambda x: x[:1], data)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), members))
    # what is chosen by the device is chosen as it would be there
    with mock.patch.object(jax, "default_backend", return_value=device.platform):
        state = jax.eval_shape(jax.vmap(algorithm.init, (0, None)), keys, sample)
        names = population.metric_names(algorithm, placement, state, data, batch_size)["train"]
        sums = jax.eval_shape(lambda: population.empty_sums(len(names), members))
        update = population.make_update(algorithm.train_step, names, batch_size, UPDATES, placement)
        arguments = abstract((state, sums, data, keys, np.int32(0)))
        program = update.lower(*arguments).compile()
    return program, capacity.member_bytes(algorithm, sample, batch_size)


def run() -> None:
    """The command."""
    platform, topology, variables = TARGETS[flags.FLAGS.target]
    os.environ.update(variables | {"JAX_PLATFORMS": "cpu"})
    from jax.experimental import topologies

    from benchmarks import measure
    from dtql_jax.errors import UserError

    values = flags.FLAGS
    try:
        device = topologies.get_topology_desc(platform=platform, **topology).devices[0]
    except (RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"nothing here compiles for {values.target}: {reason}; install "
            + ("libtpu" if platform == "tpu" else '"jax-cuda12-plugin[with-cuda]"')
            + " of the version that this jax asks for"
        ) from error
    rows: list[dict[str, Any]] = []
    for batch_size in map(int, values.batch_sizes):
        for name in values.algorithms:
            for members in map(int, values.seeds):
                began = time.monotonic()
                program, reckoned = compiled(name, batch_size, members, device)
                seconds = time.monotonic() - began
                counts = launched(program.as_text()) if platform == "cuda" else {}
                memory = program.memory_analysis()
                # the new state takes the old one's place
                taken = memory.output_size_in_bytes + memory.temp_size_in_bytes
                row = {
                    "algorithm": name,
                    "batch": batch_size,
                    "seeds": members,
                    **counts,
                    "MB a member": taken / members / 1e6,
                    "MB reckoned with": reckoned / 1e6,
                    "compile s": seconds,
                }
                measure.add(rows, row)
    path = values.json or str(measure.RESULTS / "ahead-of-time" / f"{values.target}.json")
    measure.publish(
        "ahead_of_time",
        f"Compiled for {device.device_kind}, which was not there",
        rows,
        path,
        notes="Compiled, not run. The device above is the one that compiled.",
    )


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
