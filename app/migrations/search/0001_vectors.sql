-- Made by the superuser when the cluster was; here for databases that were not.
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE exercise_vectors (
    slug        text PRIMARY KEY,
    -- Vectors of different embedders must never be compared.
    embedder    text NOT NULL,
    text_digest bytea NOT NULL,
    -- `app migrate` fits the number of dimensions to the embedder, and makes the index.
    embedding   vector NOT NULL
);

-- Loads the extension's library into this session: its settings are unknown before, and unknown settings are refused below.
SELECT '[1]'::vector;

-- The one place where vectors are compared. The custom plan lets the planner see how few rows are wanted, and so use
-- the index; the search list is longer than the 100 results that can be asked for.
CREATE FUNCTION search_exercises(query vector, max_results integer)
RETURNS TABLE (slug text, score double precision)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET hnsw.ef_search = 200
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    RETURN QUERY
    SELECT v.slug, 1 - (v.embedding <=> query)
    FROM exercise_vectors v
    ORDER BY v.embedding <=> query
    LIMIT max_results;
END
$$;
