"""Every random choice derives from one seed and the name of the stage that makes it.

Derived seeds depend on the stage, not on the cell: victims of one seed start from the same weights and see the rows in
the same order whatever the attack or defense. So cells of one seed are paired.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(seed: int, *stage: str | int) -> int:
    """A 63-bit seed for a stage, e.g. ``derive_seed(1, "victim", "init")``; the same on every machine."""
    text = "/".join(str(part) for part in (seed, *stage))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *stage: str | int) -> torch.Generator:
    """A torch generator on the CPU for a stage, seeded by :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *stage))


def numpy_generator(seed: int, *stage: str | int) -> np.random.Generator:
    """A numpy generator for a stage, seeded by :func:`derive_seed`."""
    return np.random.default_rng(derive_seed(seed, *stage))


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed the global random state of Python, numpy and torch inside the block, and restore the old state afterwards.

    For libraries that draw from global state (model initialisation in open_clip, nlpaug, kornia).
    """
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)


def use_repeatable_kernels(device: torch.device) -> None:
    """Make a GPU deterministic and its fp32 real fp32; on other devices, do nothing.

    By default cuDNN may sum in no fixed order, fp32 may keep only 10 bits of the mantissa (TF32), and fused attention
    kernels sum gradients in no fixed order. What stays unordered is the gradient at images that are
    resampled, as by crops and blurs: poisons that are crafted through such a defense may differ in single values.
    """
    if device.type != "cuda":
        return
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False  # an environment variable of NVIDIA's containers turns it on
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
