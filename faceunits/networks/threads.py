"""How many threads the networks run on: one, where faces are read one at a time.

Two threads on a crop of 128 pixels wait for each other more than they work: a frame costs half as much
processor time again, and comes a quarter sooner at best.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch works on one thread, and networks made there by other engines do; then as before."""
    import torch

    count = torch.get_num_threads()
    if count == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)
