"""GPUs and the nodes that they come in: memory, peak rates, and what a compiler must know of one that is not here.

From the vendor's data sheets (SXM modules, HGX or DGX nodes of 8) and CUDA's table of compute capabilities.
"""

from dataclasses import dataclass, replace

from ebm_jax.accounting.utilisation import PEAK_BF16_FLOPS


@dataclass(frozen=True, kw_only=True)
class GPU:
    """One kind of GPU."""

    name: str
    kind: str
    """As the device calls itself."""
    hbm_bytes: float
    hbm_bytes_per_second: float
    nvlink_bytes_per_second: float
    """To the GPUs of its node, one direction, all links together."""
    network_bytes_per_second: float
    """To other nodes, one direction: one network card for each GPU."""
    multiprocessors: int
    lanes: int
    """Scalar float32 units of a multiprocessor."""
    capability: tuple[int, int]
    shared_bytes: int
    """Of a multiprocessor."""
    cache_bytes: int
    clock_ghz: float

    @property
    def peak_bf16_flops(self) -> float:
        """Dense matrix FLOP/s."""
        return next(peak for name, peak in PEAK_BF16_FLOPS.items() if self.kind.startswith(name))

    def target_config(self) -> str:
        """The description by which XLA compiles for it: a ``GpuTargetConfigProto`` in text."""
        major, minor = self.capability
        return f"""
gpu_device_info {{
  threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {self.shared_bytes - 1024}
  shared_memory_per_core: {self.shared_bytes}
  core_count: {self.multiprocessors}  fpus_per_core: {self.lanes}
  memory_bandwidth: {self.hbm_bytes_per_second:.0f}
  l2_cache_size: {self.cache_bytes}
  clock_rate_ghz: {self.clock_ghz}
  device_memory_size: {self.hbm_bytes:.0f}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 }}
runtime_version {{ major: 12 minor: 9 patch: 0 }}
device_description_str: "{self.kind}"
"""


_A100 = GPU(
    name="a100",
    kind="NVIDIA A100-SXM4-80GB",
    hbm_bytes=80e9,
    hbm_bytes_per_second=2039e9,
    nvlink_bytes_per_second=300e9,
    network_bytes_per_second=25e9,
    multiprocessors=108,
    lanes=64,
    capability=(8, 0),
    shared_bytes=164 * 1024,
    cache_bytes=40 * 2**20,
    clock_ghz=1.41,
)
_H100 = GPU(
    name="h100",
    kind="NVIDIA H100 80GB HBM3",
    hbm_bytes=80e9,
    hbm_bytes_per_second=3352e9,
    nvlink_bytes_per_second=450e9,
    network_bytes_per_second=50e9,
    multiprocessors=132,
    lanes=128,
    capability=(9, 0),
    shared_bytes=228 * 1024,
    cache_bytes=50 * 2**20,
    clock_ghz=1.98,
)
# The same processor with another memory.
_H200 = replace(_H100, name="h200", kind="NVIDIA H200", hbm_bytes=141e9, hbm_bytes_per_second=4800e9)

GPUS: dict[str, GPU] = {gpu.name: gpu for gpu in (_A100, _H100, _H200)}
"""By name."""
