-- An operator may suspend a user; an object that is lost finds it here.
ALTER TABLE users ADD COLUMN suspended INTEGER NOT NULL DEFAULT 0; -- 0 or 1
