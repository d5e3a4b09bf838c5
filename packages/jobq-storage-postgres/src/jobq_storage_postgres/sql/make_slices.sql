-- Make the slices of this week and the next one.
SELECT jobq.make_slices(1)
