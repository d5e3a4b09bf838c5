-- Store the answer to a request; answers with its id if it is there. $1 id, $2 answer.
UPDATE jobq.worker_request SET answer = $2::text, answered_at = jobq.clock() WHERE id = $1::uuid RETURNING id
