unnest($3::text[], $4::smallint[], $5::bigint[]) AS line(queue, rank, mark)
    CROSS JOIN LATERAL (
        {line}
    ) r
