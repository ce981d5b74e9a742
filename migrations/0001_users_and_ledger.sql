-- What operators query. The Durable Objects hold the truth and write here
-- after the fact; see internal/users.

CREATE TABLE users (
  user_id         TEXT PRIMARY KEY,
  user_name       TEXT NOT NULL DEFAULT '',
  email           TEXT NOT NULL DEFAULT '',
  key             TEXT NOT NULL DEFAULT '', -- sealed with KEY_ENCRYPTION_KEY
  hash            TEXT NOT NULL DEFAULT '', -- SHA-256 of the key in hex: OpenRouter's API finds it by that
  total_limit     REAL NOT NULL,            -- credits
  remaining_limit REAL NOT NULL,            -- credits
  usage_limit     REAL NOT NULL,            -- credits left on the key when it was last read
  seq             INTEGER NOT NULL DEFAULT 0,
  created_at      TEXT NOT NULL DEFAULT '', -- RFC 3339 UTC
  updated_at      TEXT NOT NULL DEFAULT ''  -- RFC 3339 UTC
) WITHOUT ROWID;

-- Newest change first, for listing.
CREATE INDEX users_by_change ON users (updated_at, user_id);

CREATE TABLE ledger (
  user_id         TEXT NOT NULL,
  seq             INTEGER NOT NULL,
  at              TEXT NOT NULL,            -- RFC 3339 UTC
  kind            TEXT NOT NULL,
  credits         REAL NOT NULL,
  remaining_limit REAL NOT NULL,
  hash            TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (user_id, seq)
) WITHOUT ROWID;
