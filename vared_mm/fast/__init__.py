"""Evaluation at speed: a prepared copy of a trained model, and the measurements that judge it."""

from vared_mm.fast.prepare import fused, prepare_for_inference

__all__ = ["fused", "prepare_for_inference"]
