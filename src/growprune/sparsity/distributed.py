"""Agreement between processes; alone, every function leaves its argument as it is."""

import torch
import torch.distributed as dist
from torch import Tensor

if dist.is_available():
    # Its functions take the process group of the moment as a default argument. Left to be
    # imported by the first backward pass they would keep the group, and its threads, alive
    # after `destroy_process_group`, and a thread that outlives the interpreter may abort.
    import torch.distributed.nn.functional


def average_(tensor: Tensor) -> Tensor:
    """Replace `tensor` by its mean over all processes, in place."""
    if _several():
        dist.all_reduce(tensor)
        tensor /= dist.get_world_size()
    return tensor


def first_rank_mask(mask: Tensor) -> Tensor:
    """Rank 0's bool mask, on every rank, so that no rounding can set them apart."""
    if not _several():
        return mask
    message = mask.to(torch.uint8)
    dist.broadcast(message, src=0)
    return message.bool()


def first_rank_metric(metric: float | None, device: torch.device) -> float | None:
    """Rank 0's metric, on every rank: its decision is everybody's."""
    if not _several():
        return metric
    given = 0.0 if metric is None else 1.0
    message = torch.tensor([given, metric or 0.0], dtype=torch.float64, device=device)
    dist.broadcast(message, src=0)
    return float(message[1]) if message[0] else None


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
