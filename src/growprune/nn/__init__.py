"""Recurrent layers whose gates are small networks."""

from growprune.native.training import training_engine
from growprune.nn.hlstm import HLSTM, HLSTMCell

__all__ = ["HLSTM", "HLSTMCell", "training_engine"]
