"""Precisions that depend on the machine, or that TensorFlow switches for the whole process."""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

# Two scorers in threads would otherwise compute with each other's setting, and leave it behind.
_lock = threading.RLock()

# Where Linux tells what a processor has, and how it calls products of bfloat16. Those of AVX-512
# are faster than float32's on AMD's processors. On Intel's a product takes 1.8 times as long with
# them; there AMX is fast, which a virtual machine may hide.
_CPU_INFO = Path("/proc/cpuinfo")
_BFLOAT16 = {"avx512_bf16", "amx_bf16"}
_BFLOAT16_OF_INTEL = {"amx_bf16"}


@contextlib.contextmanager
def tensor_float_32(enabled: bool) -> Iterator[None]:
    """Switches TensorFloat-32 on or off for a while; TensorFlow's default is on.

    Where a GPU obeys it, another thread that comes here waits until this one is done.
    """
    gpus = tf.config.list_physical_devices("GPU")
    with _lock if gpus else contextlib.nullcontext():
        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(enabled)
        try:
            yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)


def has_bfloat16() -> bool | None:
    """Returns whether the processor multiplies faster in bfloat16; None where that is not known.

    It is known of x86 processors under Linux.
    """
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    told: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        told.setdefault(name.strip(), value.strip())
    if "flags" not in told:
        return None
    wanted = _BFLOAT16_OF_INTEL if told.get("vendor_id") == "GenuineIntel" else _BFLOAT16
    return not wanted.isdisjoint(told["flags"].split())


def product_dtype(precision: str, dtype: tf.DType, stacklevel: int) -> tf.DType:
    """Returns what explicit gradients are multiplied in; warns if bfloat16 is slower than float32.

    Args:
        precision: One of `checks.PRECISIONS`.
        dtype: That the model computes in.
        stacklevel: Of the caller, as `warnings.warn` counts.
    """
    if precision != "bfloat16":
        return dtype
    if has_bfloat16() is False and not tf.config.list_physical_devices("GPU"):
        warnings.warn(
            "precision: 'bfloat16' is about half as fast as 'float32' on this processor, which "
            "has no fast products of it (its flags lack amx_bf16, and avx512_bf16 of AMD's "
            "processors); take precision='float32'",
            stacklevel=stacklevel + 1,
        )
    return tf.bfloat16
