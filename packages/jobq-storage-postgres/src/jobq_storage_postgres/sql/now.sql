-- The storage's clock.
SELECT jobq.clock()
