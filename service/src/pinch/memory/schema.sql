-- Version 1 of the store. Rows that every recall touches are narrow; the texts stand apart.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY
) STRICT, WITHOUT ROWID;

-- Space 0 has no name: chunks of a document that is still arriving wait there, unseen.
CREATE TABLE spaces (
    id INTEGER PRIMARY KEY CHECK (id > 0),
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE threads (
    id INTEGER PRIMARY KEY,
    space INTEGER NOT NULL REFERENCES spaces (id),
    name TEXT NOT NULL,
    UNIQUE (space, name)
) STRICT;

CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    space INTEGER NOT NULL REFERENCES spaces (id),
    path TEXT NOT NULL,
    live INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    at INTEGER NOT NULL,
    folder TEXT,
    mtime_ns INTEGER
) STRICT;
CREATE UNIQUE INDEX documents_path ON documents (space, path) WHERE live;
CREATE INDEX documents_folder ON documents (folder) WHERE folder IS NOT NULL;

-- kind 0: a memory; kind 1: a chunk of a document. Times are milliseconds since 1970, UTC.
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind INTEGER NOT NULL,
    space INTEGER NOT NULL,
    thread INTEGER,
    document INTEGER,
    seq INTEGER NOT NULL,
    digest BLOB NOT NULL,
    at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    line_first INTEGER,
    line_last INTEGER,
    source TEXT
) STRICT;
CREATE UNIQUE INDEX items_memory ON items (space, ifnull(thread, 0), digest) WHERE kind = 0;
CREATE UNIQUE INDEX items_thread ON items (thread, seq) WHERE thread IS NOT NULL;
CREATE INDEX items_document ON items (document, seq) WHERE document IS NOT NULL;
CREATE INDEX items_digest ON items (digest);
CREATE INDEX items_listing ON items (space, id) WHERE kind = 0;

CREATE TABLE texts (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL
) STRICT;

CREATE VIRTUAL TABLE items_fts USING fts5 (
    text,
    content = 'texts',
    content_rowid = 'id',
    tokenize = 'porter unicode61 remove_diacritics 2'
);

CREATE TABLE tags (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE item_tags (
    item INTEGER NOT NULL,
    tag INTEGER NOT NULL REFERENCES tags (id),
    PRIMARY KEY (item, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX item_tags_tag ON item_tags (tag, item);

-- Vectors belong to texts, not to items, so that nothing is embedded twice.
CREATE TABLE models (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL UNIQUE,
    dimensions INTEGER NOT NULL,
    active INTEGER NOT NULL
) STRICT;

CREATE TABLE embeddings (
    model INTEGER NOT NULL REFERENCES models (id),
    digest BLOB NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY (model, digest)
) STRICT, WITHOUT ROWID;

-- Items that a model has not indexed yet, and ids that its index still holds after their item went.
CREATE TABLE pending (
    item INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE vanished (
    item INTEGER PRIMARY KEY
) STRICT;
