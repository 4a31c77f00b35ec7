"""The page: renders the events of a turn, nothing else. Only this package imports gradio."""
