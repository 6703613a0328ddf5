"""Compile programs that wait for each other as a thread-block cluster, whose shared memory each of them can write to.

A cluster runs whole or not at all, so no program waits for one that has no place. What Triton does not write into a
kernel is added to its PTX, where ``clusters.txt`` asks for it: how many programs a cluster has, and where their buffers
lie, behind the shared memory that Triton itself takes.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any

from cello.errors import BackendError

VARIABLE = "CELLO_CLUSTERS"
"""The environment variable that, as 0, has programs wait for each other in the GPU's memory instead."""
LARGEST = 8
"""Programs of a cluster that every GPU with clusters runs."""
FIRST = 90
"""The compute capability from which on there are clusters."""
REFUSED = ("cluster misconfiguration", "invalid cluster size", "operation not supported")
"""What CUDA says where it launches no such cluster."""
ASKED = re.compile(r"cello_cluster_(\d+)_(\d+)")
"""How many programs, and bytes of their buffers, in place of the address of the first of these.

Triton keeps machine code by a kernel's text: where this file comes to write something else, another name has it
compiled anew."""
THREADS = re.compile(r"^(\.reqntid [\d, ]+)$", re.MULTILINE)
MEMORY = ".extern .shared .align 16 .b8 global_smem[];"
"""Triton's declaration of its shared memory; a kernel that needs none is without it."""
OF_MEMORY, OF_SHARED_MEMORY = "ld.volatile.global.", "ld.volatile.shared."
"""How programs of a cluster look for what others leave them: Triton has no pointers to shared memory."""
ALIGNED = 16


def possible(split: int, capability: int) -> bool:
    """Whether so many programs can be a cluster on a GPU of that capability, and are to be one."""
    return 1 < split <= LARGEST and capability >= FIRST and os.environ.get(VARIABLE) != "0" and can_be_compiled()


def in_cluster(ptx: str, shared: int) -> tuple[str, int]:
    """A kernel's PTX with what it asks for, and the bytes of shared memory it then takes; the same if it asks nothing.

    Raises:
        BackendError: it is not written as Triton wrote it so far.
    """
    asked = ASKED.search(ptx)
    if asked is None:
        return ptx, shared
    first = -(-shared // ALIGNED) * ALIGNED
    ptx, places = ASKED.subn(f"global_smem+{first}", ptx)
    ptx = ptx.replace(OF_MEMORY, OF_SHARED_MEMORY)
    ptx, entries = THREADS.subn(rf"\1\n.explicitcluster\n.reqnctapercluster {asked[1]}, 1, 1", ptx)
    if MEMORY not in ptx:
        ptx = ptx.replace(".address_size 64\n", f".address_size 64\n{MEMORY}\n", 1)
    if (places, entries) != (1, 1) or ptx.count(MEMORY) != 1:
        raise BackendError(
            f"this release of Triton writes kernels otherwise than is known here; set {VARIABLE}=0, which has programs "
            "wait for each other in the GPU's memory"
        )
    return ptx, first + int(asked[2])


@lru_cache(maxsize=1)
def can_be_compiled() -> bool:
    """Have Triton's compiler add to kernels what they ask for, those of Cello alone do; False where it cannot."""
    try:
        from triton.backends.nvidia.compiler import CUDABackend
    except ImportError:
        return False
    make = getattr(CUDABackend, "make_ptx", None)
    if make is None:
        return False

    def make_ptx(self: Any, src: Any, metadata: dict[str, Any], *further: Any, **named: Any) -> str:
        ptx, metadata["shared"] = in_cluster(make(self, src, metadata, *further, **named), metadata["shared"])
        return ptx

    CUDABackend.make_ptx = make_ptx
    return True
