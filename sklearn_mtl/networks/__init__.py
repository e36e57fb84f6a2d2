"""Trunks that share a representation, and the multi-head module on top of them.

A trunk maps a batch ``(B, *input_shape)`` to features ``(B, F)``, or ``(B, M, F)`` for an ensemble
of M members. Trunk *specs* (`DenseTrunk`, `ConvTrunk`, `SequenceTrunk`, `Fusion` of these for
several inputs, `Ensemble` of any, `TabMTrunk` and `TimmTrunk` over packages that are extras,
`FineTune` over a pretrained module) know how to build one for an input shape, and their parameters
can be searched: ``trunk__width``.
"""

from __future__ import annotations

from sklearn_mtl.networks.build import (
    TRUNKS,
    build_trunk,
    folds_of,
    named_spec,
    pixel_statistics_of,
    reads_mask,
    takes_channels_last,
)
from sklearn_mtl.networks.conv import ConvTrunk
from sklearn_mtl.networks.dense import DenseTrunk
from sklearn_mtl.networks.ensemble import Ensemble
from sklearn_mtl.networks.extras import TabMTrunk, TimmTrunk
from sklearn_mtl.networks.finetuning import BATCH_NORMS, FineTune, Pretrained
from sklearn_mtl.networks.fusion import Fused, Fusion
from sklearn_mtl.networks.given import TrunkSpec
from sklearn_mtl.networks.members import MemberHeads, MemberLinear, Members, MemberTrunk
from sklearn_mtl.networks.module import HiddenHeads, MultiTaskModule
from sklearn_mtl.networks.sequences import SequenceTrunk
from sklearn_mtl.networks.specs import is_data, spelled_out, trunk_of

__all__ = [
    "BATCH_NORMS",
    "TRUNKS",
    "ConvTrunk",
    "DenseTrunk",
    "Ensemble",
    "FineTune",
    "Fused",
    "Fusion",
    "HiddenHeads",
    "MemberHeads",
    "MemberLinear",
    "MemberTrunk",
    "Members",
    "MultiTaskModule",
    "Pretrained",
    "SequenceTrunk",
    "TabMTrunk",
    "TimmTrunk",
    "TrunkSpec",
    "build_trunk",
    "folds_of",
    "is_data",
    "named_spec",
    "pixel_statistics_of",
    "reads_mask",
    "spelled_out",
    "takes_channels_last",
    "trunk_of",
]
