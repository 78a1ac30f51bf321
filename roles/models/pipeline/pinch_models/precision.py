"""How a graph stores and multiplies its weights: float32, or int8 with a scale per channel."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pinch_models.writer import GraphWriter

Float = NDArray[np.float32]

# Seven bits. x86 without VNNI adds two products of an unsigned and a signed byte in 16 bits and
# saturates: 2 × 255 × 64 = 32,640 still fits 32,767, 2 × 255 × 127 does not. Arm and VNNI
# accumulate in 32 bits, so only within this limit do all of them agree.
WEIGHT_LIMIT = 64
# A table is only looked up, never multiplied, so it may use the whole byte.
TABLE_LIMIT = 127
# Activations become two unsigned bytes around this zero: value / peak × 127 + 128, and what that
# leaves, in steps 254 times as fine.
ACTIVATION_LIMIT = 127
ACTIVATION_ZERO = 128
FINE_STEP = 1 / 254


class Precision(Protocol):
    """Writes the two operations of an encoder that hold nearly all of its weights."""

    def lookup(self, writer: GraphWriter, name: str, table: Float, rows: str) -> str:
        """Return ``rows`` (int64 [batch, seq]) of ``table`` [n, width] as float32."""

    def project(self, writer: GraphWriter, name: str, value: str, weights: Float, bias: Float) -> str:
        """Return ``value`` [batch, seq, in] · ``weights`` [in, out] + ``bias`` [out]."""


class Float32:
    """Weights as they are."""

    def lookup(self, writer: GraphWriter, name: str, table: Float, rows: str) -> str:
        """Gather rows of the float32 table."""
        return writer.op("Gather", writer.constant(name, table), rows, axis=0)

    def project(self, writer: GraphWriter, name: str, value: str, weights: Float, bias: Float) -> str:
        """Multiply in float32."""
        product = writer.op("MatMul", value, writer.constant(f"{name}.weight", weights))
        return writer.op("Add", product, writer.constant(f"{name}.bias", bias))


class Int8:
    """Integer products; weights are scaled once per output channel, activations per token.

    One byte per activation would do for accuracy, but not for agreement: a sum that differs in its
    last bit flips a rounding, the flip moves later sums by a whole step, and after two layers a
    Pi's vector differs from a server's by 0.02. The second byte makes a step too small to matter.
    A scale per token (and not one per batch, as DynamicQuantizeLinear takes it) keeps a text's
    vector independent of what else is in its batch and of how far it is padded.
    """

    def lookup(self, writer: GraphWriter, name: str, table: Float, rows: str) -> str:
        """Gather int8 rows and give only those their scale back."""
        whole, scale = quantize(table, axis=1, limit=TABLE_LIMIT)
        found = writer.op("Gather", writer.constant(name, whole), rows, axis=0)
        scales = writer.op("Gather", writer.constant(f"{name}.scale", scale), rows, axis=0)
        return writer.op("Mul", writer.float32(found), scales)

    def project(self, writer: GraphWriter, name: str, value: str, weights: Float, bias: Float) -> str:
        """Multiply bytes exactly in int32; scales and bias are applied to the sums."""
        whole, scale = quantize(weights, axis=0, limit=WEIGHT_LIMIT)
        one, fine = writer.scalar(1.0), writer.scalar(FINE_STEP)
        zero = writer.constant("activation.zero", np.array(ACTIVATION_ZERO, dtype=np.uint8))
        peak = writer.op("ReduceMax", writer.op("Abs", value), writer.integers(-1), keepdims=1)
        peak = writer.op("Max", peak, writer.scalar(1e-12))
        stretched = writer.op("Mul", value, writer.op("Div", writer.scalar(float(ACTIVATION_LIMIT)), peak))
        coarse = writer.op("QuantizeLinear", stretched, one, zero)
        covered = writer.op("Sub", writer.float32(coarse), writer.scalar(float(ACTIVATION_ZERO)))
        rest = writer.op("QuantizeLinear", writer.op("Sub", stretched, covered), fine, zero)
        # One product of twice the rows: the weights are read and packed once.
        product = writer.op(
            "MatMulIntegerToFloat",
            writer.op("Concat", coarse, rest, axis=1),
            writer.constant(f"{name}.weight", whole),
            one,
            writer.constant(f"{name}.scale", scale[0] / np.float32(ACTIVATION_LIMIT)),
            zero,
        )
        halves = writer.op("Split", product, outputs=2, axis=1, num_outputs=2)
        total = writer.op("Add", halves, writer.op("Mul", f"{halves}.1", fine))
        return writer.op("Add", writer.op("Mul", total, peak), writer.constant(f"{name}.bias", bias))


def quantize(values: Float, axis: int, limit: int) -> tuple[NDArray[np.int8], Float]:
    """Return ``values`` [m, n] as integers within ±``limit``, and the scale that restores them.

    The scale has size 1 along ``axis``: axis 0 gives one per column, axis 1 one per row. Only
    maxima and element-wise steps are used, which no CPU may round otherwise, so the bytes are
    the same on every machine.
    """
    peak = np.max(np.abs(values), axis=axis, keepdims=True)
    scale: NDArray[Any] = np.where(peak > 0, peak / np.float32(limit), np.float32(1)).astype(np.float32)
    return np.clip(np.rint(values / scale), -limit, limit).astype(np.int8), scale


PRECISIONS: dict[str, Precision] = {"fp32": Float32(), "int8": Int8()}
