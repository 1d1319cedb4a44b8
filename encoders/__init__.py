"""Inputs become conditions: frozen encoders, and the language model that writes the Language of Audio."""
