-- List the applied migrations.
SELECT name, checksum FROM jobq.migration ORDER BY name
