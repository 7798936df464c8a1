"""A device that is not there: tensors on it say so, compute as on the processor, and refuse to meet tensors elsewhere.

What runs on it and gives what the processor gives has every tensor where it belongs, as far as Python sees it; how fast
and how exact a real device is, only a real one tells.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("cuda", 127)  # which no machine has: what is kept by device is never given to a real one
ON_BOTH = ("to", "type_as", "copy_")  # to a device from another
BY_INDEX = ("__getitem__", "__setitem__", "index_put_")  # into a device, by indices that may be on the processor
ON_PROCESSOR = ("cpu", "tolist", "item", "__bool__", "__float__", "__int__", "__index__", "__len__", "__repr__")


class There(Tensor):
    """A tensor on the device."""

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        return ran(function, args, kwargs or {})


class _Factories(TorchFunctionMode):
    """Tensors that are made on the device, or moved there."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        return ran(function, args, kwargs or {})


def ran(function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """The function's result, on the device where its tensors are there or where it is asked for."""
    name = getattr(function, "__name__", "")
    if name == "_has_compatible_shallow_copy_type":  # a module that is moved gets new parameters
        return False
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    there = any(isinstance(one, There) for one in tensors)
    if name == "__get__" and there:
        of = (resolve_name(function) or "").split(".")[-2]
        if of in ("device", "is_cpu", "is_cuda"):
            return {"device": DEVICE, "is_cpu": False, "is_cuda": True}[of]
    if there and name == "numpy":
        raise TypeError("a tensor on the device has no NumPy array; move it to the processor")
    met = tree_leaves(args[2:]) if name in BY_INDEX and isinstance(args[0], There) else tensors
    elsewhere = [tuple(one.shape) for one in met if isinstance(one, Tensor) and not isinstance(one, There) and one.ndim]
    if there and elsewhere and name not in ON_BOTH:
        raise RuntimeError(f"{name}: tensors of shape {elsewhere} are on the processor, others on the device")
    asked = None
    if name in ("to", "cuda") or "device" in kwargs:
        places = [*(args[1:] if name == "to" else ()), kwargs.get("device")]
        found = [
            one.device if isinstance(one, Tensor) else one
            for one in places
            if isinstance(one, Tensor) or _is_place(one)
        ]
        asked = torch.device(found[0]) if found else None
        args = tuple(
            torch.device("cpu") if n and name == "to" and _is_place(one) else one for n, one in enumerate(args)
        )
        kwargs = {key: torch.device("cpu") if _is_place(one) else one for key, one in kwargs.items()}
    with torch._C.DisableTorchFunction():
        made = function(*tree_map_only(There, _held, args), **tree_map_only(There, _held, kwargs))
    if name.endswith("_") and not name.endswith("__") and args and isinstance(args[0], There):
        return args[0]
    if name in ON_PROCESSOR or not (there if asked is None else asked.type == DEVICE.type):
        return made
    return tree_map_only(Tensor, lambda one: one.as_subclass(There), made)


def _is_place(one: Any) -> bool:
    return isinstance(one, torch.device) or (isinstance(one, str) and one.split(":")[0] in ("cpu", "cuda"))


def _held(one: There) -> Tensor:
    return one.as_subclass(Tensor)


@contextmanager
def other_device() -> Iterator[str]:
    """Inside, the device is there; its name."""
    with _Factories():
        yield str(DEVICE)
