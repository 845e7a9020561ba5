-- Pieces of the reference stream, packed.
COPY perfcore.reference_streams (started_at, service, process, "references", content) FROM STDIN
