-- Which migrations are applied.
SELECT name, checksum FROM jobq.migration ORDER BY name
