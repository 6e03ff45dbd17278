"""The verbs: each moves a record one step along the path, knowing only nouns and ports."""
