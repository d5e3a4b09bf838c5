-- Which of these jobs are there. $1 job ids.
SELECT id FROM jobq.job WHERE id = ANY($1::uuid[])
