"""Recurrent layers whose gates are small networks."""

from growprune.native.training import training_engine, training_products
from growprune.nn.dropout import Dropout
from growprune.nn.hlstm import HLSTM, HLSTMCell
from growprune.nn.lstm import leave_out_dormant, native_forward

__all__ = [
    "HLSTM",
    "Dropout",
    "HLSTMCell",
    "leave_out_dormant",
    "native_forward",
    "training_engine",
    "training_products",
]
