-- Answer as `claim` does without a job: 'lost' unless a worker is registered and its heartbeat has not expired. $1 worker.
SELECT CASE WHEN NOT EXISTS (
    SELECT FROM jobq.worker w WHERE w.id = $1::uuid AND w.expires_at > (SELECT jobq.clock())
) THEN 'lost' END, NULL::uuid, NULL, NULL, NULL
