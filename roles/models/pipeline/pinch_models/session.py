"""The model as a device runs it: ONNX Runtime with the settings that keep memory low."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pinch_models.errors import BuildError
from pinch_models.layout import GRAPH, TOKENIZER
from pinch_models.manifest import Manifest


class Session:
    """Turns texts into vectors with the model in one directory."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        """Load graph and tokenizer; raise `BuildError` where either is refused."""
        # Both cost half a second: only commands that run a model wait for them.
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._tokenizer = Tokenizer.from_file(str(directory / TOKENIZER))
            self._session = onnxruntime.InferenceSession(
                str(directory / GRAPH), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # both libraries raise their own kinds, down to bare Exception
            raise BuildError(f"the model in {directory} cannot be loaded ({error})") from error
        self._tokenizer.enable_truncation(manifest["window"])
        self._tokenizer.no_padding()

    def ids(self, text: str) -> list[int]:
        """Return the token ids of ``text``, cut to the model's window."""
        return list(self._tokenizer.encode(text).ids)

    def embed(self, texts: Sequence[str], batch: int = 1) -> NDArray[np.float32]:
        """Return one vector per text, float32 [texts, dimensions]."""
        rows = [self.ids(text) for text in texts]
        parts = [self.run(rows[start : start + batch]) for start in range(0, len(rows), batch)]
        return np.concatenate(parts)

    def run(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Embed one batch of token ids, padded to the longest."""
        longest = max(len(row) for row in rows)
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        try:
            outputs = self._session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise BuildError(f"the model cannot be run ({error})") from error
        vectors: NDArray[np.float32] = outputs[0]
        return vectors


def probe(directory: Path, manifest: Manifest) -> None:
    """Run the model once; raise `BuildError` unless it gives finite unit vectors of the right size."""
    session = Session(directory, manifest)
    short, long = "A crab holds on.", "tide and pool " * manifest["window"]
    vectors = session.embed([short, long], batch=2)
    if vectors.shape != (2, manifest["dimensions"]):
        raise BuildError(
            f"{manifest['name']} gives vectors of {vectors.shape[-1]} dimensions, "
            f"{manifest['dimensions']} are pinned; correct dimensions in its pin"
        )
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        raise BuildError(f"{manifest['name']} gives vectors that are not finite or not of length 1")
