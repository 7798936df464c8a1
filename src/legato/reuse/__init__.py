"""Encode a stream and recompute only what changed."""

from legato.reuse.audit import Audit
from legato.reuse.encoder import Encoded, ReuseEncoder
from legato.reuse.plan import Look, Plan
from legato.reuse.policy import Hierarchical, MaxAge, Policy, RandomFraction, Threshold, TopFraction
from legato.reuse.state import StreamState

__all__ = [
    "Audit",
    "Encoded",
    "Hierarchical",
    "Look",
    "MaxAge",
    "Plan",
    "Policy",
    "RandomFraction",
    "ReuseEncoder",
    "StreamState",
    "Threshold",
    "TopFraction",
]
