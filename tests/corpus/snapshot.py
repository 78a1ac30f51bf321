"""The corpus as a snapshot of the real service, made on the controller once and kept by what it is made of."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from tests.cache import REPOSITORY, cache_folder, digest
from tests.corpus.packages import CorpusError, fetch
from tests.corpus.pins import PINS_FILE, load_pins
from tests.corpus.selection import Corpus, select
from tests.running import LocalService

MODEL = "all-MiniLM-L6-v2-int8"
PIPELINE = REPOSITORY / "roles" / "models" / "pipeline"
MEMORY = REPOSITORY / "service" / "src" / "pinch" / "memory"
STORED = ("schema.sql", "chunking.py")
"""Files of the service that decide what a snapshot without vectors holds."""
EMBEDDED = ("model.py", "vectors.py")
"""Further ones that decide its vectors."""
EMBEDDING_S = 3600.0
REPORT_S = 30.0

Tell = Callable[[str], None]


@frozen
class Built:
    """A corpus that is ready to be loaded."""

    folder: Path
    snapshot: Path
    semantic: bool
    """Whether the snapshot has a vector for every chunk."""
    documents: int
    document_bytes: int
    chunks: int
    seconds: float
    """What building the snapshot took."""

    @property
    def live(self) -> Path:
        """Documents to ingest while a load runs: a JSON list of `[path, text]`."""
        return self.folder / "live.json"

    @property
    def queries(self) -> Path:
        """Queries of the load: a JSON list of strings."""
        return self.folder / "queries.json"


def model_folder() -> Path:
    """Return the folder of the int8 model, built by the models role's pipeline where it is not cached.

    Raises:
        CorpusError: the model cannot be had.
    """
    command = [sys.executable, "-m", "pinch_models", "build", MODEL, "--json"]
    done = subprocess.run(command, cwd=PIPELINE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CorpusError(f"model {MODEL} cannot be built: {done.stderr.strip() or done.stdout.strip()}")
    return Path(json.loads(done.stdout)["path"])


def build(*, semantic: bool, tell: Tell = print) -> Built:
    """Return the corpus, from the cache where it is there.

    Args:
        semantic: with a vector for every chunk, as the tiers with a model have it; without, for the minimal tier.
        tell: hears what goes on: embedding takes minutes.

    Raises:
        CorpusError: a package or the model cannot be had, or the service does not finish.
    """
    code = (PINS_FILE, Path(__file__).with_name("selection.py"))
    stored = tuple(MEMORY / name for name in STORED)
    if not semantic:
        return _cached(f"keyword-{digest(*code, *stored)[:16]}", False, {"PINCH_TIER": "minimal"}, tell)
    model = model_folder()
    manifest = json.loads((model / "manifest.json").read_text("utf-8"))
    embedded = tuple(MEMORY / name for name in EMBEDDED)
    key = digest(*code, *stored, *embedded, str(manifest["sha256"]).encode())[:16]
    settings = {"PINCH_TIER": "full", "PINCH_MODEL_DIR": str(model), "PINCH_EMBEDDING_THREADS": "2"}
    return _cached(f"semantic-{key}", True, settings, tell)


def _cached(name: str, semantic: bool, settings: dict[str, str], tell: Tell) -> Built:
    root = cache_folder("corpus")
    folder = root / name
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=root) as scratch:
                partial = Path(scratch) / "built"
                partial.mkdir()
                _build(partial, Path(scratch) / "service", settings, tell)
                partial.rename(folder)
    about = json.loads((folder / "about.json").read_text("utf-8"))
    return Built(folder, folder / "corpus.snapshot", semantic, **about)


def _build(folder: Path, state: Path, settings: dict[str, str], tell: Tell) -> None:
    begin = time.monotonic()
    pins = load_pins()
    corpus = select(pins, fetch(pins.packages, pins.client))
    chunks = _ingest(corpus, state, folder / "corpus.snapshot", tell, **settings)
    live = [(document.path, document.content.decode("utf-8")) for document in corpus.live]
    (folder / "live.json").write_text(json.dumps(live), "utf-8")
    (folder / "queries.json").write_text(json.dumps(corpus.queries), "utf-8")
    about = {
        "documents": len(corpus.documents),
        "document_bytes": sum(len(document.content) for document in corpus.documents),
        "chunks": chunks,
        "seconds": round(time.monotonic() - begin, 1),
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1), "utf-8")
    tell(f"corpus: {about}")


def _ingest(corpus: Corpus, folder: Path, snapshot: Path, tell: Tell, **settings: str) -> int:
    """Run a service, give it the documents, wait until it has embedded them; return the number of chunks."""
    folder.mkdir()
    with LocalService(folder, **settings) as service, service.client() as client:
        chunks = sum(client.put_document(each.path, each.content)["chunks"] for each in corpus.documents)
        deadline = time.monotonic() + EMBEDDING_S
        told = time.monotonic()
        while (state := client.call("GET", "/v1/sync")["embedding"])["pending"]:
            if time.monotonic() > deadline:
                raise CorpusError(f"{state['pending']} of {chunks} chunks have no vector after {EMBEDDING_S:.0f} s")
            if time.monotonic() - told > REPORT_S:
                told = time.monotonic()
                tell(f"corpus: {state['pending']} of {chunks} chunks wait for their vector")
            time.sleep(1)
        with snapshot.open("wb") as file:
            client.save_snapshot(file)
    return int(chunks)
