-- Times are integer milliseconds UTC. Columns marked "lease clock" are read by
-- the boot-time clock anchored to wall time (store/clock.py), all others by the wall.

-- AUTOINCREMENT here and below: a request that waits while its user is removed must not come back as
-- the next user, key or group.
CREATE TABLE users (
    user_seq INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL DEFAULT 'local',
    username TEXT NOT NULL,
    created INTEGER NOT NULL,
    -- A user of one source never merges with one of the same name from another.
    UNIQUE (source, username)
) STRICT;

CREATE TABLE keys (
    key_seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key_id TEXT NOT NULL UNIQUE,
    user_seq INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    hash BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('admin', 'user', 'worker', 'read')),
    container_group_id TEXT,
    org_name TEXT NOT NULL,
    project_name TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,
    revoked INTEGER
) STRICT;

-- Revoking and listing the keys of one user.
CREATE INDEX keys_by_user ON keys (user_seq);

CREATE TABLE container_groups (
    group_seq INTEGER PRIMARY KEY AUTOINCREMENT,
    user_seq INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    container_group_id TEXT NOT NULL,
    UNIQUE (user_seq, container_group_id)
) STRICT;

-- An admin's list of one group's jobs, whoever they belong to.
CREATE INDEX container_groups_by_name ON container_groups (container_group_id);

-- The state of a job: narrow, rewritten by every heartbeat. Its submission is in job_specs.
CREATE TABLE jobs (
    job_seq INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE,
    user_seq INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    group_seq INTEGER NOT NULL REFERENCES container_groups ON DELETE CASCADE,
    status TEXT NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'completed', 'canceled', 'failed')),
    priority INTEGER NOT NULL,
    run_at INTEGER NOT NULL DEFAULT 0,
    -- Lease clock. 0 once it has passed.
    not_before INTEGER NOT NULL DEFAULT 0,
    -- How many jobs it depends on are not completed yet: rows in dependencies.
    waits_for INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    machine_id TEXT,
    -- Lease clock, inclusive.
    lease_expires INTEGER,
    -- Lease clock: when the server ends an attempt that does not watch its own time limit.
    deadline INTEGER,
    heartbeat_interval INTEGER NOT NULL,
    timeout_s REAL,
    max_failures INTEGER NOT NULL,
    max_interruptions INTEGER NOT NULL,
    num_failures INTEGER NOT NULL DEFAULT 0,
    num_interruptions INTEGER NOT NULL DEFAULT 0,
    num_heartbeats INTEGER NOT NULL DEFAULT 0,
    retries INTEGER NOT NULL DEFAULT 0,
    -- Interruptions in a row in which nothing was stored or reported.
    unproductive INTEGER NOT NULL DEFAULT 0,
    -- Whether the newest attempt has stored or reported anything.
    productive INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL,
    started INTEGER,
    completed INTEGER,
    canceled INTEGER,
    failed INTEGER,
    heartbeat INTEGER,
    progress TEXT,
    last_checkpoint TEXT,
    reason TEXT,
    -- What the webhook wants to hear, as bits (store/outbox.py); 0 without a webhook.
    webhook_events INTEGER NOT NULL DEFAULT 0,
    CHECK ((status = 'running') = (lease_expires IS NOT NULL)),
    CHECK (status <> 'running' OR (attempt > 0 AND machine_id IS NOT NULL))
) STRICT;

-- Claiming: the next job of a group; job_seq follows as the rowid, oldest first.
CREATE INDEX jobs_claimable ON jobs (group_seq, priority DESC)
    WHERE status = 'pending' AND not_before = 0 AND run_at = 0 AND waits_for = 0;
-- Upkeep: jobs whose retry delay has passed.
CREATE INDEX jobs_delayed ON jobs (not_before) WHERE status = 'pending' AND not_before > 0;
-- Upkeep: jobs whose hour has come.
CREATE INDEX jobs_scheduled ON jobs (run_at) WHERE status = 'pending' AND run_at > 0;
-- Upkeep: leases that ran out.
CREATE INDEX jobs_leased ON jobs (lease_expires) WHERE status = 'running';
-- Upkeep: attempts past the time limit that their worker does not know of.
CREATE INDEX jobs_overdue ON jobs (deadline) WHERE status = 'running' AND deadline IS NOT NULL;
-- Listing a user's jobs in order of submission, between two times or from a cursor on.
CREATE INDEX jobs_by_user ON jobs (user_seq, created);
-- Listing by status, group or both, in the same order, and purging a group. The one list index that
-- holds the status, so that a claim rewrites one: without a group, or without a status, the list is
-- merged from all groups, or all five statuses (store/selection.py).
CREATE INDEX jobs_by_group ON jobs (group_seq, status, created);

CREATE TRIGGER jobs_stay_ended BEFORE UPDATE OF status ON jobs
WHEN OLD.status IN ('completed', 'canceled', 'failed')
    AND NEW.status <> OLD.status
    AND NOT (NEW.status = 'pending' AND OLD.status <> 'completed' AND NEW.retries = OLD.retries + 1)
BEGIN
    SELECT RAISE(ABORT, 'a job that has ended stays ended');
END;

CREATE TRIGGER jobs_attempts_only_grow BEFORE UPDATE OF attempt ON jobs
WHEN NEW.attempt < OLD.attempt
BEGIN
    SELECT RAISE(ABORT, 'the attempt number never goes back');
END;

-- What was submitted, as JSON, defaults filled in. Only its labels ever change.
CREATE TABLE job_specs (
    job_seq INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    definition TEXT NOT NULL
) STRICT;

-- Finding jobs by label, in order of submission. The empty key holds the job's name: labels have none.
CREATE TABLE job_labels (
    user_seq INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    created INTEGER NOT NULL,
    job_seq INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    PRIMARY KEY (user_seq, key, value, created, job_seq)
) STRICT, WITHOUT ROWID;

-- The labels of one job: a second label of a filter, changing them, removing the job.
CREATE INDEX job_labels_by_job ON job_labels (job_seq, key);

-- Which jobs a job still waits for; a row goes when that job is completed. `needs_seq` may name a job
-- that was removed: its dependents must fail, not start.
CREATE TABLE dependencies (
    job_seq INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    needs_seq INTEGER NOT NULL,
    PRIMARY KEY (job_seq, needs_seq)
) STRICT, WITHOUT ROWID;

-- Who waits for a job that has just ended.
CREATE INDEX dependencies_by_need ON dependencies (needs_seq);

-- Jobs that ended or were removed and whose dependents were not all told yet: a few in each step.
CREATE TABLE settled (
    job_seq INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE attempts (
    job_seq INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    attempt INTEGER NOT NULL CHECK (attempt > 0),
    machine_id TEXT NOT NULL,
    key_seq INTEGER NOT NULL,
    claim_id TEXT,
    version TEXT,
    started INTEGER NOT NULL,
    ended INTEGER,
    outcome TEXT CHECK (outcome IN ('completed', 'failed', 'interrupted', 'lost', 'canceled')),
    exit_code INTEGER,
    signal TEXT,
    reason TEXT,
    detail TEXT,
    -- num_heartbeats of the job when this attempt began: heartbeats then rewrite one row, not two.
    heartbeats_before INTEGER NOT NULL,
    num_heartbeats INTEGER,
    bytes_in INTEGER NOT NULL DEFAULT 0,
    bytes_out INTEGER NOT NULL DEFAULT 0,
    compute_s REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (job_seq, attempt),
    CHECK ((ended IS NULL) = (outcome IS NULL))
) STRICT, WITHOUT ROWID;

-- A claim that is asked again because its answer was lost.
CREATE INDEX attempts_by_claim ON attempts (claim_id) WHERE claim_id IS NOT NULL AND outcome IS NULL;

CREATE TABLE attempt_logs (
    job_seq INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    tail TEXT NOT NULL,
    PRIMARY KEY (job_seq, attempt),
    FOREIGN KEY (job_seq, attempt) REFERENCES attempts ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    event_id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_seq INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    machine_id TEXT,
    source TEXT,
    target TEXT,
    reason TEXT
) STRICT;

-- The history of one job.
CREATE INDEX events_by_job ON events (job_seq);

-- Machines that are not offered a job: for its failure (until is NULL), or for a while
-- (until is on the lease clock, 0 once it has passed).
CREATE TABLE bans (
    job_seq INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    machine_id TEXT NOT NULL,
    -- Lease clock.
    since INTEGER NOT NULL,
    until INTEGER,
    times INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (job_seq, machine_id)
) STRICT, WITHOUT ROWID;

-- Upkeep: machines that may be offered a job again.
CREATE INDEX bans_ending ON bans (until) WHERE until > 0;

-- Who asks a group for work; written at most once a minute per machine.
CREATE TABLE polls (
    group_seq INTEGER NOT NULL REFERENCES container_groups ON DELETE CASCADE,
    machine_id TEXT NOT NULL,
    -- Lease clock.
    polled INTEGER NOT NULL,
    PRIMARY KEY (group_seq, machine_id)
) STRICT, WITHOUT ROWID;

-- Submissions that may come again. Jobs of one submission have consecutive job_seq.
CREATE TABLE idempotency_keys (
    user_seq INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    route TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    body_hash BLOB NOT NULL,
    first_job_seq INTEGER NOT NULL,
    job_count INTEGER NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (user_seq, route, idempotency_key)
) STRICT, WITHOUT ROWID;

-- Upkeep: keys older than a day.
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created);

-- How a user's webhooks are signed, and what the user chose for them.
CREATE TABLE webhook_settings (
    user_seq INTEGER PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    secret TEXT NOT NULL,
    key TEXT,
    url TEXT
) STRICT;

-- Webhook messages: written with the change they tell of, sent by the server's courier.
CREATE TABLE webhook_deliveries (
    delivery_seq INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery_id TEXT NOT NULL UNIQUE,
    user_seq INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    job_seq INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    url TEXT NOT NULL,
    -- Host and port of the url: receivers take turns, so that a slow one delays nobody else.
    origin TEXT NOT NULL,
    body TEXT NOT NULL,
    created INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'given_up')),
    tries INTEGER NOT NULL DEFAULT 0,
    -- Lease clock. NULL while an earlier message of the same job is pending, and at the end.
    next_try INTEGER,
    last_try INTEGER,
    answer_status INTEGER,
    answer TEXT,
    error TEXT,
    CHECK (state = 'pending' OR next_try IS NULL)
) STRICT;

-- The order within a job, and its history.
CREATE INDEX webhook_deliveries_by_job ON webhook_deliveries (job_seq);
-- The courier: who is due, one receiver at a time.
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (origin, next_try) WHERE next_try IS NOT NULL;
-- Listing a user's deliveries, newest first.
CREATE INDEX webhook_deliveries_by_user ON webhook_deliveries (user_seq);
-- Upkeep: deliveries to forget.
CREATE INDEX webhook_deliveries_by_age ON webhook_deliveries (created) WHERE state <> 'pending';
