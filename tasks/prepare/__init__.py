"""prepare: from raw text and a model source to a tokenizer, tokens, splits and held-out tasks."""
