"""The conversation: one turn of text and media in, typed events and sounds out."""
