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

from attrs import asdict, frozen

from tests.cache import REPOSITORY, cache_folder, digest
from tests.corpus.packages import CorpusError, fetch
from tests.corpus.pins import PINS_FILE, load_pins
from tests.corpus.selection import Corpus, select
from tests.running import LocalService

MODEL = "all-MiniLM-L6-v2-int8"
PIPELINE = REPOSITORY / "roles" / "models" / "pipeline"
MEMORY = REPOSITORY / "service" / "src" / "pinch" / "memory"
SHAPES = ("schema.sql", "database.py", "chunking.py", "model.py", "vectors.py")
"""Files of the service that decide what a snapshot holds."""
EMBEDDING_S = 3600.0
REPORT_S = 30.0

Tell = Callable[[str], None]


@frozen
class Built:
    """A corpus that is ready to be loaded."""

    folder: Path
    documents: int
    document_bytes: int
    chunks: int
    seconds: float
    """What building it took."""

    @property
    def semantic(self) -> Path:
        """Snapshot with a vector for every chunk."""
        return self.folder / "semantic.snapshot"

    @property
    def keyword(self) -> Path:
        """Snapshot of the same documents from a service of the minimal tier: no vectors, half the bytes."""
        return self.folder / "keyword.snapshot"

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


def build(tell: Tell = print) -> Built:
    """Return the corpus, from the cache where it is there.

    Raises:
        CorpusError: a package or the model cannot be had, or the service does not finish.
    """
    model = model_folder()
    manifest = json.loads((model / "manifest.json").read_text("utf-8"))
    shapes = (MEMORY / name for name in SHAPES)
    code = (Path(__file__), Path(__file__).with_name("selection.py"))
    key = digest(PINS_FILE, *code, *shapes, str(manifest["sha256"]).encode())[:16]
    root = cache_folder("corpus")
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = root / key
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=root) as scratch:
                partial = Path(scratch) / "built"
                partial.mkdir()
                _build(partial, Path(scratch), model, tell)
                partial.rename(folder)
    about = json.loads((folder / "about.json").read_text("utf-8"))
    return Built(folder, **about)


def _build(folder: Path, scratch: Path, model: Path, tell: Tell) -> None:
    begin = time.monotonic()
    pins = load_pins()
    corpus = select(pins, fetch(pins.packages, pins.client))
    tell(f"corpus: {len(corpus.documents)} documents, embedding them takes some minutes")
    chunks = _ingest(corpus, scratch / "keyword", folder / "keyword.snapshot", tell, PINCH_TIER="minimal")
    semantic = {"PINCH_TIER": "full", "PINCH_MODEL_DIR": str(model), "PINCH_EMBEDDING_THREADS": "2"}
    _ingest(corpus, scratch / "semantic", folder / "semantic.snapshot", tell, **semantic)
    live = [(document.path, document.content.decode("utf-8")) for document in corpus.live]
    (folder / "live.json").write_text(json.dumps(live), "utf-8")
    (folder / "queries.json").write_text(json.dumps(corpus.queries), "utf-8")
    built = Built(
        folder=folder,
        documents=len(corpus.documents),
        document_bytes=sum(len(document.content) for document in corpus.documents),
        chunks=chunks,
        seconds=round(time.monotonic() - begin, 1),
    )
    about = {name: value for name, value in asdict(built).items() if name != "folder"}
    (folder / "about.json").write_text(json.dumps(about, indent=1), "utf-8")
    tell(f"corpus: {chunks} chunks of {built.document_bytes} bytes, built in {built.seconds} s")


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
