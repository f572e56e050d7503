"""Follows the `forward` of a module with `torch.fx`."""

import inspect

from torch import fx, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from growprune.nn import HLSTM, HLSTMCell


def trace(module: nn.Module) -> fx.Graph:
    """The calls that a module's `forward` makes, in evaluation mode.

    Raises:
        ValueError: its way depends on the data, or it uses something that cannot be followed.
    """
    tracer = _Tracer(autowrap_functions=(pack_padded_sequence, pad_packed_sequence))
    # Where the two are called as nn.utils.rnn's; torch offers no public way to wrap them there.
    tracer._autowrap_search.append(nn.utils.rnn)
    if tracer.is_leaf_module(module, ""):
        return _single_call()
    parameters = list(inspect.signature(module.forward).parameters.values())
    defaults = {p.name: p.default for p in parameters[1:] if p.default is not p.empty}
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        graph = tracer.trace(module, concrete_args=defaults)
    except (fx.proxy.TraceError, TypeError, RuntimeError, AttributeError, NotImplementedError) as e:
        raise ValueError(
            f"{type(module).__name__}.forward cannot be packed, because torch.fx cannot follow it "
            f"({e}); move what depends on the data out of it"
        ) from e
    finally:
        for part, training in modes.items():
            part.training = training
    return graph


class _Tracer(fx.Tracer):
    """Goes no further into layers that are packed as a whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether `m` is one call."""
        return type(m) in (HLSTM, HLSTMCell) or super().is_leaf_module(m, module_qualified_name)


def _single_call() -> fx.Graph:
    """The graph of a module that is one layer."""
    graph = fx.Graph()
    graph.output(graph.call_module("", (graph.placeholder("x"),)))
    return graph
