-- The next texts: few at a time, for each may be 64 KB.
FETCH FORWARD 50 FROM perfcore_texts
