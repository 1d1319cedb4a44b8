"""Judging: what a checkpoint's sounds are taken for by a listener that the generator never met."""
