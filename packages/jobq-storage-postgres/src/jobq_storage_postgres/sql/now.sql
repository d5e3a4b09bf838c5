-- Read the storage's clock.
SELECT jobq.clock()
