"""Model FLOPs utilisation: FLOPs that the method needs per second over what the devices could do.

    MFU = FLOPs per step / (seconds per step * devices * peak FLOP/s of a device)

The inner descent is part of the model's FLOPs; blocks that ``model.remat`` computes again are not. Logits of wide vocabularies,
which are always made again in the backward pass, count as often as they are made.
"""

import jax

PEAK_BF16_FLOPS: dict[str, float] = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}
"""Dense bf16 matrix FLOP/s by the start of the device's name, from the vendors' data sheets."""


def peak_flops(device: jax.Device) -> float | None:
    """The device's peak, or None where it is not known (CPUs)."""
    names = sorted(PEAK_BF16_FLOPS, key=len, reverse=True)
    return next((PEAK_BF16_FLOPS[name] for name in names if device.device_kind.startswith(name)), None)


def mfu(flops_per_step: float, seconds_per_step: float, devices: list[jax.Device]) -> float | None:
    """Utilisation between 0 and 1, or None where the peak is not known."""
    peak = peak_flops(devices[0])
    return None if peak is None else flops_per_step / (seconds_per_step * len(devices) * peak)
