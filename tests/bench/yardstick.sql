-- One life in three transactions: the rows that the platform writes for a job between its submission and its receipt.

BEGIN;
UPDATE trading.accounts SET balance_units = balance_units - 5000000, held_units = held_units + 5000000,
    version = version + 1 WHERE id = {payer} RETURNING version AS payer_version \gset
UPDATE trading.accounts SET balance_units = balance_units + 5000000, version = version + 1
    WHERE id = {escrow} RETURNING version AS escrow_version \gset
INSERT INTO trading.holds
    (id, payer, amount_units, fee_basis_points, state, reference, placed_at, expires_at, placed_by)
    VALUES (uuidv7(), {payer}, 5000000, 250, 'open', 'job_01hzzzzzzzzzzzzzzzzzzzzzzz', now(), now() + interval '1 day', uuidv7())
    RETURNING id AS job, placed_by AS placed_by \gset
INSERT INTO trading.transactions (id, kind, hold, reference, created_at, body)
    VALUES (:placed_by::uuid, 'hold', :job::uuid, 'job_01hzzzzzzzzzzzzzzzzzzzzzzz', now(), {placed});
INSERT INTO trading.entries
    (transaction_id, position, account_id, amount_units, balance_after_units, account_version, created_at)
    VALUES (:placed_by::uuid, 0, {payer}, -5000000, 0, :payer_version::bigint, now()),
           (:placed_by::uuid, 1, {escrow}, 5000000, 0, :escrow_version::bigint, now());
INSERT INTO trading.unsealed (kind, record_id, digest)
    VALUES ('transaction', :placed_by::uuid, sha256(uuid_send(:placed_by::uuid)));
INSERT INTO ai.answers (account, key, fingerprint, body, created_at)
    VALUES ('acct_01hzzzzzzzzzzzzzzzzzzzzzzz', :job::text, sha256(uuid_send(:job::uuid)), {answer}, now());
INSERT INTO ai.flows (account, lane, priority, tag, used_at) VALUES ({payer}, {payer}, 0, 1, now())
    ON CONFLICT (account, lane, priority) DO UPDATE SET tag = flows.tag + 1, used_at = excluded.used_at;
INSERT INTO ai.jobs
    (id, account, kind, lane, needs, priority, rank, state, reason, fault, input, input_digest, max_price_units, unit,
     unit_price_units, input_units, units_max, expects, queue_seconds, start_seconds, run_seconds, retention_seconds,
     attempts_max, retry_requester, attempts, token, avoided, due_at, expires_at, deadline_at, created_at,
     hold_expires_at, request_id)
    VALUES (:job::uuid, {payer}, 'embed', {payer}, {needs}, 0, :payer_version::bigint, 'queued', 'submitted', 'none',
     {input}, {digest}, 5000000, 'token', 100, 20, 20, '{"count"; 1}', 86400, 60, 600, 604800, 3, false, 0, 0, '', now(),
     now() + interval '1 hour', now() + interval '1 day', now(),
     now() + interval '2 days', 'req_01hzzzzzzzzzzzzzzzzzzzzzzz');
COMMIT;

BEGIN;
SELECT id AS job FROM ai.jobs WHERE lane = {payer} AND state = 'queued' ORDER BY rank, id LIMIT 1
    FOR UPDATE SKIP LOCKED \gset
INSERT INTO ai.attempts
    (id, job, kind, token, miner, miner_account, started_at, expires_at, run_until, fault, reason, message)
    VALUES (uuidv7(), :job::uuid, 'embed', 1, {miner}, {miner}, now(), now() + interval '30 s', now() + interval '600 s',
     'none', '', '') RETURNING id AS attempt \gset
UPDATE ai.jobs SET state = 'leased', reason = 'leased', token = 1, attempt = :attempt::uuid, attempts = 1,
    expires_at = now() + interval '600 s', started_at = now() WHERE id = :job::uuid;
COMMIT;

BEGIN;
UPDATE ai.jobs SET state = 'succeeded', reason = 'succeeded', attempt = NULL, completed_at = now(),
    kept_until = now() + interval '7 days', output = {output}, output_digest = {digest}, units = 20, price_units = 2000
    WHERE id = :job::uuid;
UPDATE ai.attempts SET running_at = now(), ended = 'succeeded', ended_at = now(), usage = {usage},
    output_digest = {digest}, miner_key = {signature}, signature = {signature} WHERE id = :attempt::uuid;
INSERT INTO ai.outbox (id, kind, body, request_id, created_at, due_at, attempts)
    VALUES (uuidv7(), 'ai.JobSucceeded', {event}, NULL, now(), now() + interval '5 s', 0),
           (uuidv7(), 'ai.AttemptEnded', {usage}, NULL, now(), now() + interval '5 s', 0);
UPDATE trading.accounts SET balance_units = balance_units - 5000000, version = version + 1
    WHERE id = {escrow} RETURNING version AS escrow_version \gset
UPDATE trading.accounts SET balance_units = balance_units + 1950, earned_units = earned_units + 1950,
    version = version + 1 WHERE id = {miner} RETURNING version AS miner_version \gset
UPDATE trading.accounts SET balance_units = balance_units + 50, earned_units = earned_units + 50,
    version = version + 1 WHERE id = {fees} RETURNING version AS fees_version \gset
UPDATE trading.accounts SET balance_units = balance_units + 4998000, held_units = held_units - 5000000,
    spent_units = spent_units + 2000, version = version + 1 WHERE id = {payer} RETURNING version AS payer_version \gset
UPDATE trading.holds SET state = 'settled', ended_at = now(), ended_by = uuidv7(), price_units = 2000
    WHERE id = :job::uuid RETURNING ended_by AS ended_by \gset
INSERT INTO trading.transactions (id, kind, hold, reference, created_at, body)
    VALUES (:ended_by::uuid, 'settle', :job::uuid, 'job_01hzzzzzzzzzzzzzzzzzzzzzzz', now(), {settled});
INSERT INTO trading.entries
    (transaction_id, position, account_id, amount_units, balance_after_units, account_version, created_at)
    VALUES (:ended_by::uuid, 0, {escrow}, -5000000, 0, :escrow_version::bigint, now()),
           (:ended_by::uuid, 1, {miner}, 1950, 0, :miner_version::bigint, now()),
           (:ended_by::uuid, 2, {fees}, 50, 0, :fees_version::bigint, now()),
           (:ended_by::uuid, 3, {payer}, 4998000, 0, :payer_version::bigint, now());
INSERT INTO trading.receipts
    (id, transaction_id, payer, miner, miner_account, price_units, fee_units, earned_units, issued_at, body)
    VALUES (:job::uuid, :ended_by::uuid, {payer}, {miner}, {miner}, 2000, 50, 1950, now(), {receipt});
INSERT INTO trading.unsealed (kind, record_id, digest)
    VALUES ('transaction', :ended_by::uuid, sha256(uuid_send(:ended_by::uuid))),
           ('receipt', :job::uuid, sha256(uuid_send(:job::uuid)));
COMMIT;
