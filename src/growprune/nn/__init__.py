"""Recurrent layers whose gates are small networks."""

from growprune.nn.hlstm import HLSTM, HLSTMCell

__all__ = ["HLSTM", "HLSTMCell"]
