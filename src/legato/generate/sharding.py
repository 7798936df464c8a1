"""Training a model that no single device holds: FSDP2 (`fully_shard` of PyTorch), on accelerators and on CPUs.

A sharded tensor is gathered for a checkpoint and dealt out again when one is read, so checkpoints are the same whether
and over how many processes a run was sharded.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

__all__ = ["dealt_like", "gathered", "shard"]


def shard(model: nn.Module, device: torch.device, processes: int) -> None:
    """Deal a model's parameters out to all processes, block by block; the process group exists."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes,))
    blocks: Iterable[nn.Module] = getattr(model, "blocks", ())
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def gathered(values: Any) -> Any:
    """A state with every sharded tensor whole, on the CPU; all processes have to call it."""
    if _is_sharded(values):
        return values.full_tensor().detach().cpu()
    if isinstance(values, Tensor):
        return values.detach().cpu().clone()
    if isinstance(values, dict):
        return {key: gathered(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)(gathered(value) for value in values)
    return values


def dealt_like(value: Tensor, parameter: Tensor) -> Tensor:
    """This process's part of a whole tensor, dealt out as a parameter is; whole where that is whole."""
    if _is_sharded(parameter) and value.shape == parameter.shape:
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value.to(parameter.device) if value.shape == parameter.shape else value


def _is_sharded(value: Any) -> TypeGuard["DTensor"]:
    """Whether it is a `DTensor`, by what those alone can do: to import that class takes a second."""
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")
