"""Programs that tests compile are not optimised: compiling those would take most of their time."""

import importlib.util
import os

import jax

# A version that knows no such flag ends the process.
FAST = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1" + (
    " --xla_cpu_use_fusion_emitters=false" if jax.__version_info__[:2] == (0, 10) else ""
)


def compile_fast() -> None:
    """Sets the flags, unless there are others or an accelerator, which may not support them."""
    if importlib.util.find_spec("jax_plugins") is None:
        os.environ.setdefault("XLA_FLAGS", FAST)
