"""How the small planner is taught: grammar, data, tokenizer, trainer."""
