CREATE TABLE users (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email         text NOT NULL UNIQUE,
    password_hash text NOT NULL,
    role          text NOT NULL DEFAULT 'member' CHECK (role IN ('member', 'editor')),
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE exercises (
    slug         text PRIMARY KEY,
    name         text NOT NULL,
    level        text NOT NULL,
    equipment    text NOT NULL,
    muscles      text[] NOT NULL,
    instruction text NOT NULL,
    -- Goes up with every change: the ETag.
    version      bigint NOT NULL DEFAULT 1,
    -- An editor's text is never overwritten by the catalogue.
    edited       boolean NOT NULL DEFAULT false,
    updated_at   timestamptz NOT NULL DEFAULT now()
);

-- By user, because every question is one user's: each partition stays small, and so do its indexes.
CREATE TABLE workouts (
    id              bigint GENERATED ALWAYS AS IDENTITY,
    user_id         bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    slug            text NOT NULL,
    sets            integer NOT NULL CHECK (sets > 0),
    reps            integer NOT NULL CHECK (reps > 0),
    weight_grams    integer NOT NULL CHECK (weight_grams >= 0),
    performed_at    timestamptz NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- NULL keys are never equal to each other: workouts without one are all different.
    idempotency_key text,
    request_digest  bytea,
    PRIMARY KEY (user_id, id),
    UNIQUE (user_id, idempotency_key)
) PARTITION BY HASH (user_id);

CREATE TABLE workouts_0 PARTITION OF workouts FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE workouts_1 PARTITION OF workouts FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE workouts_2 PARTITION OF workouts FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE workouts_3 PARTITION OF workouts FOR VALUES WITH (MODULUS 4, REMAINDER 3);

CREATE INDEX workouts_latest ON workouts (user_id, performed_at DESC, id DESC);
