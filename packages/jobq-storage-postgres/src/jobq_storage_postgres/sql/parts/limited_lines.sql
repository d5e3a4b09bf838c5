(
        SELECT l.queue, l.most, min(l.n)::integer AS first, max(l.n)::integer AS last
        FROM unnest($3::text[], $10::integer[]) WITH ORDINALITY AS l(queue, most, n)
        GROUP BY l.queue, l.most
        ORDER BY first
    ) AS q
    CROSS JOIN LATERAL (
        SELECT r.*
        FROM unnest(($3)[q.first:q.last], ($4::smallint[])[q.first:q.last], ($5::bigint[])[q.first:q.last])
            AS line(queue, rank, mark)
        CROSS JOIN LATERAL (
            {line}
        ) r
        LIMIT q.most
    ) r
