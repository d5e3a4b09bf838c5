-- Return for how many seconds the oldest end of a followed job has not been taken up; NULL without any.
SELECT extract(epoch FROM jobq.clock() - (SELECT e.at FROM jobq.ended e ORDER BY e.at LIMIT 1))::float8
