-- Return whether a worker is registered and its heartbeat has not expired. $1 worker.
SELECT EXISTS (SELECT FROM jobq.worker w WHERE w.id = $1::uuid AND w.expires_at > (SELECT jobq.clock()))
